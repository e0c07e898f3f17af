"""What the gate's socket tells of births: where each is met, as soon as it is, and no longer than it is."""

import asyncio
import contextlib
import os
import select
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from stockade.adapters import gate
from stockade.adapters.gate import GateSocket
from stockade.adapters.netlink import stirs
from stockade.controller.clock import SystemClock
from stockade.core.model.ids import HostId
from stockade.core.model.inventory import Attachment, Endpoint
from stockade.seams.gate import Knock
from stockade.seams.places import Place
from stockade.seams.runtime import Gone, Listed, RuntimeEvent, Seen

LINK = Endpoint(Attachment.BRIDGED, (), "veth3", "br0", "02:00:00:00:00:03", "h/br0")
MET = msgspec.structs.replace(LINK, addresses=("10.0.0.3",))


class Rooms:
    """Namespaces as files that say who is met there, each with a pipe along which it is told that they changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stirred, self._stirs = os.pipe2(os.O_NONBLOCK)

    def room(self, name: str, *endpoints: Endpoint) -> Path:
        path = self.folder / name
        path.write_bytes(msgspec.json.encode(Place(f"netns:{name}", endpoints)))
        return path

    def stir(self) -> None:
        os.write(self._stirs, b"!")

    def look(self, path: str) -> Place:
        return msgspec.json.decode(Path(path).read_bytes(), type=Place)

    def follow(self, path: str) -> int:
        assert Path(path).exists()
        return os.dup(self._stirred)

    def close(self) -> None:
        os.close(self._stirred)
        os.close(self._stirs)


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    made = Rooms(tmp_path)
    yield made
    made.close()


async def knock(at: Path, container: str, room: Path) -> str:
    reader, writer = await asyncio.open_unix_connection(at / "gate.sock")
    writer.write(f"oci\t{container}\t{room}\n".encode())
    answer = (await reader.readline()).decode().rstrip("\n")
    writer.close()
    return answer


def welcome(asked: Knock) -> str:
    return "" if asked.container else "who?"


@contextlib.asynccontextmanager
async def attending(rooms: Rooms) -> AsyncIterator[Callable[[], "asyncio.Future[RuntimeEvent]"]]:
    door = GateSocket(
        HostId("h"), rooms.folder, rooms.folder, places=rooms.look, stirs=rooms.follow, clock=SystemClock()
    )
    told = door.attend(welcome, lambda: False)
    assert await anext(told) == Listed(())
    yield lambda: asyncio.wait_for(anext(told), 30)
    await told.aclose()


def test_where_a_newborn_is_met_is_told_as_soon_as_its_namespace_stirs(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PAUSES", (1000.0,) * 5)

    async def scenario() -> None:
        async with attending(rooms) as told:
            room = rooms.room("a", LINK)
            assert await knock(rooms.folder, "cafe", room) == ""
            first = await told()
            rooms.room("a", MET)
            rooms.stir()
            second = await told()
        assert isinstance(first, Seen)
        assert isinstance(second, Seen)
        assert (first.sighting.endpoints, second.sighting.endpoints) == ((LINK,), (MET,))
        assert first.sighting.id == second.sighting.id == "gate:h:cafe"
        assert second.marks == ("container:cafe", "netns:a")

    asyncio.run(scenario())


def test_whose_port_is_given_to_another_is_gone(rooms: Rooms) -> None:
    async def scenario() -> None:
        async with attending(rooms) as told:
            await knock(rooms.folder, "cafe", rooms.room("a", MET))
            await told()
            await knock(rooms.folder, "beef", rooms.room("b", msgspec.structs.replace(MET, port="veth4")))
            await told()
            await knock(rooms.folder, "dead", rooms.room("c", msgspec.structs.replace(MET, addresses=("10.0.0.9",))))
            gone, seen = await told(), await told()
        assert isinstance(gone, Gone)
        assert isinstance(seen, Seen)
        assert (gone.id, seen.sighting.id) == ("gate:h:cafe", "gate:h:dead")

    asyncio.run(scenario())


def test_a_question_is_answered_while_the_agent_is_busy(rooms: Rooms) -> None:
    async def scenario() -> None:
        async with attending(rooms) as told:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.settimeout(30)  # and nothing else in this loop gets on meanwhile
                asking.connect(str(rooms.folder / "gate.sock"))
                asking.sendall(f"oci\tcafe\t{rooms.room('a', MET)}\n".encode())
                assert asking.recv(100) == b"\n"
            assert isinstance(await told(), Seen)

    asyncio.run(scenario())


def test_who_cannot_answer_says_so(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(asked: Knock) -> str:
        raise RuntimeError(f"asked by {asked.by}")

    async def scenario() -> None:
        monkeypatch.setitem(globals(), "welcome", broken)
        async with attending(rooms) as told:
            await knock(rooms.folder, "cafe", rooms.folder / "nobody")
            with pytest.raises(RuntimeError, match="asked by oci"):
                await told()

    asyncio.run(scenario())


def test_who_asks_late_holds_up_nobody(rooms: Rooms) -> None:
    async def scenario() -> None:
        async with attending(rooms):
            reader, writer = await asyncio.open_unix_connection(rooms.folder / "gate.sock")
            writer.write(b"oci\tlate")
            assert await knock(rooms.folder, "cafe", rooms.room("a", MET)) == ""
            writer.write(f"\t{rooms.room('b', MET)}\nand more".encode())
            assert await reader.readline() == b"\n"
            writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("nonsense", [b"", b"oci", b"\xff\n", b"\0\t\0\t\0\n", b"x" * (gate.LONGEST + 1)])
def test_who_asks_nonsense_is_let_go_and_the_next_is_answered(rooms: Rooms, nonsense: bytes) -> None:
    async def scenario() -> None:
        async with attending(rooms):
            reader, writer = await asyncio.open_unix_connection(rooms.folder / "gate.sock")
            writer.write(nonsense)
            writer.write_eof()
            with contextlib.suppress(ConnectionError):  # what it says beyond a line's length is not read
                await reader.read()
            writer.close()
            assert await knock(rooms.folder, "cafe", rooms.room("a", MET)) == ""

    asyncio.run(scenario())


def test_who_asks_before_all_is_known_waits_for_it(rooms: Rooms) -> None:
    async def scenario() -> None:
        looks = iter([True] * 5)
        door = GateSocket(
            HostId("h"), rooms.folder, rooms.folder, places=rooms.look, stirs=rooms.follow, clock=SystemClock()
        )
        told = door.attend(lambda _: "" if next(looks, None) is None else "asked too soon", lambda: next(looks, False))
        await anext(told)
        assert await knock(rooms.folder, "cafe", rooms.room("a", MET)) == ""
        await told.aclose()

    asyncio.run(scenario())


def test_where_nobody_can_listen_is_said(rooms: Rooms) -> None:
    async def scenario() -> None:
        (rooms.folder / "gate.sock").mkdir()
        with pytest.raises(OSError, match="directory"):
            async with attending(rooms):
                pass

    asyncio.run(scenario())


@pytest.mark.real
def test_a_namespace_stirs_when_a_link_or_an_address_in_it_changes() -> None:
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; exec cat"], stdin=-1, stdout=-1)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"ready\n"
        descriptor = stirs(f"/proc/{holder.pid}/ns/net")
        try:
            assert not select.select([descriptor], [], [], 0.2)[0]
            for words in ("link set lo up", "address add 192.0.2.1/32 dev lo"):
                command = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "ip", *words.split()]
                subprocess.run(command, check=True, timeout=60)
                assert select.select([descriptor], [], [], 30)[0]
                with contextlib.suppress(BlockingIOError):
                    while os.read(descriptor, 1 << 16):
                        pass
        finally:
            os.close(descriptor)
    finally:
        holder.kill()
        holder.communicate()


def test_a_namespace_that_is_gone_does_not_stir() -> None:
    with pytest.raises(OSError, match="cannot be opened"):
        stirs("/proc/0/ns/net")
