"""The line between an agent and a controller in the same process.

Without a wire, yet everything goes through the wire's encoding: what works here works for an agent far away.
"""

from collections.abc import AsyncIterator

import msgspec

from stockade.controller.loop import Controller
from stockade.core.model.ids import HostId
from stockade.decoding import ready
from stockade.wire import AgentMessage, Assignment


class DirectLink:
    """Implements ``seams.link.ControllerLink`` for one host."""

    def __init__(self, controller: Controller, host: HostId) -> None:
        self._controller = controller
        self._host = host

    async def generation(self) -> int:
        """Return the last generation of this host's reports that is stored."""
        return self._controller.generation(self._host)

    async def say(self, message: AgentMessage) -> int:
        """Deliver a message; return the last generation that is stored. ``StockadeError`` where it was not taken."""
        heard = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=ready(AgentMessage))
        return await self._controller.take(heard)

    async def assignments(self, since: str) -> AsyncIterator[Assignment]:
        """Yield what this host shall enforce, each time that it is not what it has; ends with the controller."""
        async for each in self._controller.assignments(self._host, since):
            yield msgspec.msgpack.decode(msgspec.msgpack.encode(each), type=ready(Assignment))
