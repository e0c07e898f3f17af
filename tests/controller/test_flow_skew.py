"""A host whose clock is wrong tells the same: the map has its connections where they were by the controller's clock."""

import asyncio
import ipaddress
import os
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from controlled import HOST
from served import Served, served

from stockade.adapters.clickhouse.apart import FlowStoreApart
from stockade.agent.flows import recorder
from stockade.agent.flows.recorder import Recorder
from stockade.agent.flows.spool import Spool
from stockade.controller.http.peers import Access
from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.recording import Said, prefix
from stockade.core.model.ids import RuleId
from stockade.core.model.packet import Direction
from stockade.seams.flows import Decision, Ended, Heard
from stockade.wire import AgentMessage, Assignment

pytestmark = pytest.mark.long

ALLOWED = prefix(Direction.INGRESS, Said.ALLOWED, RuleId("shop/api-to-db")).encode()
DENIED = prefix(Direction.INGRESS, Said.DENIED, "default", own=True).encode()
PASSED, REFUSED = 7, 3


class WrongClock:
    """Wrong by so many seconds, of the day and since the start."""

    def __init__(self, wrong: float) -> None:
        self.wrong = wrong

    def now(self) -> float:
        return time.time() + self.wrong

    def monotonic(self) -> float:
        return time.monotonic() + self.wrong


class Voice:
    """A kernel that tells of so many connections, and then of what one of them carried."""

    def __init__(self) -> None:
        ends = [ipaddress.ip_address(each).packed for each in ("10.0.0.1", "10.0.0.2")]
        said = [ALLOWED] * PASSED + [DENIED] * REFUSED
        decisions = [Decision(each, 6, *ends, 5432, at.to_bytes(6, "big"), 60) for at, each in enumerate(said)]
        self.heard = [Heard(decisions, [Ended(6, *ends, 5432, ends[1], 5432, MARKS.admitted, 9, 700, 900, 1.5)])]

    def read(self, patience: float) -> Heard:
        if self.heard:
            return self.heard.pop()
        time.sleep(min(patience, 0.01))
        return Heard([], [])

    def losses(self) -> tuple[tuple[str, str, int], ...]:
        return ()

    def close(self) -> None:
        pass


class Line:
    """To a controller that is elsewhere."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self.said = 0

    async def generation(self) -> int:
        return 0

    async def say(self, message: AgentMessage) -> int:
        reply = await asyncio.to_thread(self._server.say, message)
        assert reply.status_code == 200, reply.text
        self.said += 1
        return 0

    def assignments(self, since: str) -> AsyncIterator[Assignment]:
        raise NotImplementedError


@pytest.mark.parametrize("wrong", [-7200.0, 0.0, 7200.0])
def test_the_map_has_them_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    monkeypatch.setattr(recorder, "EVERY", 0.05)

    async def record(server: Served) -> None:
        line = Line(server)
        spool = Spool(tmp_path / "agent")
        made = Recorder(HOST, source=Voice, link=line, spool=spool, clock=WrongClock(wrong))
        running = asyncio.create_task(made.run())
        while not line.said:
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with closing(FlowStoreApart(tmp_path / "flows")) as flows, served(tmp_path, Access(os.geteuid()), flows) as server:
        server.furnish()
        began = time.time()
        asyncio.run(asyncio.wait_for(record(server), 60))
        graph = server.get("/v1/graph", by="workload", since=began - 5, until=time.time() + 5).json()
        (edge,) = [each for each in graph["edges"] if each["observed"]]
        seen = edge["observed"]["seen"]
        assert (seen["allowed"], seen["denied"], seen["connections"]) == (PASSED, REFUSED, PASSED + REFUSED)
        assert (seen["bytes_out"], seen["bytes_in"], seen["ended"]) == (700, 900, 1)
        assert began - 5 <= seen["first"] <= seen["last"] <= time.time() + 5
        assert not [each for each in server.get("/v1/graph", by="workload", until=began - 60).json()["edges"]
                    if each["observed"]]  # fmt: skip
