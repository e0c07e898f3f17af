"""The recorder: what it heard reaches the controller, whatever disk and controller do; what does not is counted."""

import asyncio
import ipaddress
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from stockade.agent.flows import recorder
from stockade.agent.flows.recorder import Recorder
from stockade.agent.flows.spool import Spool
from stockade.controller.clock import SystemClock
from stockade.core.compile.nft.recording import Said, prefix
from stockade.core.model.flow import FlowLoss
from stockade.core.model.flow_table import FlowBatch, flows
from stockade.core.model.ids import HostId, RuleId
from stockade.core.model.packet import Direction
from stockade.seams.flow_store import FlowsRefused
from stockade.seams.flows import Decision, Heard
from stockade.wire import AgentMessage, Assignment, Recorded

ALLOWED = prefix(Direction.INGRESS, Said.ALLOWED, RuleId("shop/web-to-db")).encode()


class Voice:
    """A kernel that tells of one connection each time it is asked to, and of what it had to leave out."""

    def __init__(self) -> None:
        self.said = threading.Semaphore(0)
        self.port, self.left_out = 1000, 0

    def read(self, patience: float) -> Heard:
        if not self.said.acquire(timeout=min(patience, 0.01)):
            return Heard([], [])
        self.port += 1
        ends = [ipaddress.ip_address(each).packed for each in ("10.0.0.1", "10.0.0.2")]
        return Heard([Decision(ALLOWED, 6, *ends, self.port, b"\x0f\xa0abcd", 60)], [])

    def losses(self) -> tuple[tuple[str, str, int], ...]:
        return (("nflog", "decisions", self.left_out),)

    def close(self) -> None:
        pass


class Line:
    """A controller that refuses the flows to one port for ever."""

    def __init__(self, refuses: int = 0) -> None:
        self.refuses = refuses
        self.taken: list[FlowBatch] = []

    async def generation(self) -> int:
        return 0

    async def say(self, message: AgentMessage) -> int:
        assert isinstance(message, Recorded)
        if any(each.key.port == self.refuses for each in flows(message.batch.flows)):
            raise FlowsRefused("a flow holds a number that is none of its kind")
        self.taken.append(message.batch)
        return 0

    def assignments(self, since: str) -> AsyncIterator[Assignment]:
        raise NotImplementedError

    @property
    def ports(self) -> list[int]:
        return [flow.key.port for each in self.taken for flow in flows(each.flows)]

    @property
    def lost(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for each in (loss for batch in self.taken for loss in batch.lost):
            found[each.where, each.what] = found.get((each.where, each.what), 0) + each.count
        return found


def recorded(tmp_path: Path, voice: Voice, line: Line, spool: Spool, *acts: Callable[[], bool]) -> None:
    """Run a recorder; each act is done again and again until it says that it came out."""

    async def main() -> None:
        made = Recorder(HostId("h"), source=lambda: voice, link=line, spool=spool, clock=SystemClock())
        running = asyncio.create_task(made.run())
        for act in acts:
            while not act():
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "EVERY", 0.02)


def test_a_batch_that_can_never_be_stored_is_counted_and_keeps_no_other_waiting(tmp_path: Path) -> None:
    voice, line = Voice(), Line(refuses=1001)

    def first() -> bool:
        voice.said.release()
        return True

    def second() -> bool:
        voice.said.release()
        return 1001 not in line.ports and any(port > 1001 for port in line.ports)

    def told() -> bool:
        voice.said.release()
        return line.lost.get(("controller", "refused flows"), 0) >= 1

    recorded(tmp_path, voice, line, Spool(tmp_path), first, second, told)
    assert len(line.ports) + line.lost["controller", "refused flows"] <= voice.port - 1000


class Full(Spool):
    """A disk that takes nothing for a while."""

    full = True

    def put(self, batch: FlowBatch) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().put(batch)


def test_what_a_full_disk_lost_is_told_with_the_losses_that_were_lost_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "UNKEPT", 2)
    voice, line, spool = Voice(), Line(), Full(tmp_path)
    voice.left_out = 7  # told of with the first batch, which will be lost

    def heard(count: int) -> bool:
        voice.said.release()
        return voice.port > 1000 + count

    def again() -> bool:
        spool.full = False
        return True

    def told() -> bool:
        voice.said.release()
        return line.lost.get(("nflog", "decisions"), 0) > 0 and line.lost.get(("disk", "flows"), 0) > 0

    recorded(tmp_path, voice, line, spool, lambda: heard(40), again, told)
    assert line.lost["nflog", "decisions"] == 7
    assert FlowLoss("nflog", "decisions", 7) in [each for batch in line.taken for each in batch.lost]
