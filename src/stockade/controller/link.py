"""The line between an agent and a controller in the same process: ``seams.link.ControllerLink`` without a wire."""

from collections.abc import AsyncIterator

from stockade.controller.loop import Controller
from stockade.core.model.ids import HostId
from stockade.wire import AgentMessage, Assignment


class DirectLink:
    """One host's agent, heard at once."""

    def __init__(self, controller: Controller, host: HostId) -> None:
        self._controller = controller
        self._host = host

    async def generation(self) -> int:
        """Return the last generation of this host's reports that is stored."""
        return self._controller.generation(self._host)

    async def say(self, message: AgentMessage) -> int:
        """Deliver a message; return the last generation that is stored. ``StockadeError`` where it was not taken."""
        return await self._controller.take(message)

    def assignments(self, since: str) -> AsyncIterator[Assignment]:
        """Yield what this host shall enforce, each time that it is not what it has; ends with the controller."""
        return self._controller.assignments(self._host, since)
