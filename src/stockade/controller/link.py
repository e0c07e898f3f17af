"""The line between an agent and a controller in one process: the same wire messages, through the same encoding."""

from collections.abc import AsyncIterator

import msgspec

from stockade.controller.loop import Controller
from stockade.core.model.ids import HostId
from stockade.wire import AgentMessage, Assignment


class LocalLink:
    """Implements ``seams.link.ControllerLink`` for one host. What is said is encoded and decoded as for a far one."""

    def __init__(self, controller: Controller, host: HostId) -> None:
        self._controller = controller
        self._host = host

    async def generation(self) -> int:
        """Return the last generation of this host's reports that is stored."""
        return self._controller.generation(self._host)

    async def say(self, message: AgentMessage) -> int:
        """Deliver a message; return the last generation that is stored."""
        heard = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=AgentMessage)
        return await self._controller.take(heard)

    async def assignments(self, since: str) -> AsyncIterator[Assignment]:
        """Yield what this host shall enforce, each time that it changes."""
        async for assignment in self._controller.assignments(self._host, since):
            yield msgspec.msgpack.decode(msgspec.msgpack.encode(assignment), type=Assignment)
