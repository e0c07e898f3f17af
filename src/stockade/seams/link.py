"""An agent's line to its controller."""

from collections.abc import AsyncIterator
from typing import Protocol

from stockade.wire import AgentMessage, Assignment


class ControllerLink(Protocol):
    """Carries wire messages. Any method may raise ``OSError`` where no controller answers."""

    async def generation(self) -> int:
        """Return the last generation of this host's reports that the controller has stored."""
        ...

    async def say(self, message: AgentMessage) -> int:
        """Deliver a message; return the last generation of this host's reports that is stored.

        ``FlowsRefused`` where recorded flows are none that can ever be stored.
        """
        ...

    def assignments(self, since: str) -> AsyncIterator[Assignment]:
        """Yield what this host shall enforce whenever it is not what has the fingerprint ``since``."""
        ...
