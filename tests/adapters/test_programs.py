"""From a connection to the program that holds its socket: real sockets, real processes, and a budget that holds."""

import ctypes
import ipaddress
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nft_rooms import Room as BareRoom
from nft_rooms import bare_room

from stockade.adapters.namespaces import KnownPrograms, Room, programs
from stockade.adapters.namespaces.processes import Program, namespace_of, pids, program
from stockade.adapters.namespaces.programs import text
from stockade.seams.flows import LocalSocket

HERE = namespace_of(os.getpid())
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
LINK = "veth-test"
SERVE = """
import socket, sys
s = socket.create_server(("127.0.0.1", 8080))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 5353))
c = socket.create_connection(("127.0.0.1", 8080))
print(c.getsockname()[1], flush=True)
sys.stdin.read()
"""


class Ticking:
    """A clock that goes on by as much at each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.at, self.step = 1000.0, step

    def __call__(self) -> float:
        self.at += self.step
        return self.at


class Places:
    """Where namespaces are, as the test knows."""

    def __init__(self, members: tuple[int, ...] = (os.getpid(),), **rooms: Room) -> None:
        self.found = {"": Room(None, HERE), **{key.replace("_", "-"): room for key, room in rooms.items()}}
        self.who = members
        self.asked = 0

    def rooms(self) -> dict[str, Room]:
        return self.found

    def members(self, inode: int) -> tuple[int, ...]:
        self.asked += 1
        return tuple(pid for pid in self.who if lives_in(pid, inode))


def lives_in(pid: int, inode: int) -> bool:
    try:
        return namespace_of(pid) == inode
    except PermissionError:
        return False


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def client(of: socket.socket, place: str = "") -> LocalSocket:
    (address, port), (peer, peer_port) = of.getsockname()[:2], of.getpeername()[:2]
    return LocalSocket(place, of.proto or TCP, packed(address), port, packed(peer), peer_port, serves=False)


def server(port: int, *, protocol: int = TCP, address: str = "127.0.0.1", place: str = "") -> LocalSocket:
    local = packed(address)
    return LocalSocket(place, protocol, local, port, bytes(len(local) - 1) + b"\1", 40_000, serves=True)


def own_name() -> str:
    return text(program(os.getpid()) or Program("gone"), host=True)


@contextmanager
def pair(family: int, address: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server((address, 0), family=family) as listening,
        socket.create_connection(listening.getsockname()[:2]) as made,
    ):
        yield listening, made


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_either_end_of_a_connection_is_this_process_s(family: int, address: str) -> None:
    with pair(family, address) as (listening, made):
        port = listening.getsockname()[1]
        found = KnownPrograms(Places()).look([client(made), server(port, address=address), server(1, address=address)])
    assert list(found) == [own_name(), own_name(), ""]


def test_a_socket_for_both_families_serves_either_and_one_without_a_peer_is_found_by_its_port() -> None:
    with ExitStack() as held:
        both = held.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
        datagrams = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.bind(("0.0.0.0", 0))
        port = datagrams.getsockname()[1]
        asks = LocalSocket("", UDP, packed("127.0.0.1"), port, packed("192.0.2.53"), 53, serves=False)
        found = KnownPrograms(Places()).look(
            [server(both.getsockname()[1]), asks, server(port, protocol=UDP), server(port, protocol=TCP)]
        )
    assert list(found) == [own_name()] * 3 + [""]


def test_who_has_closed_a_socket_is_not_guessed() -> None:
    known = KnownPrograms(Places())
    with pair(socket.AF_INET, "127.0.0.1") as (listening, made):
        gone = client(made)
        port = listening.getsockname()[1]
    assert list(known.look([gone, server(port)])) == ["", ""]


def test_a_socket_that_no_process_of_its_namespace_holds_is_nobody_s() -> None:
    with pair(socket.AF_INET, "127.0.0.1") as (_, made):
        assert list(KnownPrograms(Places(members=())).look([client(made)])) == [""]
        assert list(KnownPrograms(Places()).look([client(made, place="nowhere")])) == [""]


def test_a_server_is_remembered_and_looked_for_again_after_a_while() -> None:
    clock, places = Ticking(), Places()
    known = KnownPrograms(places, clock=clock)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asked = server(listening.getsockname()[1])
        assert list(known.look([asked])) == [own_name()]
        known.look([asked] * 1000)
        assert (known.unlooked, places.asked) == (0, 1), "once for all"
    assert list(known.look([asked])) == [own_name()], "as it was a moment ago"
    clock.at += programs.KNOWN_FOR + 1
    assert list(known.look([asked])) == [""]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MOST", 10)
    monkeypatch.setattr(programs, "EACH_SECOND", 1000)
    known = KnownPrograms(Places(), clock=Ticking())
    known.look([server(port) for port in range(1, 100)])
    assert len(known._servers) == 10


def test_what_would_take_too_long_is_not_looked_for_and_counted() -> None:
    clock = Ticking()
    known = KnownPrograms(Places(), clock=clock)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        asked = server(listening.getsockname()[1])
        known.look([server(port) for port in range(1, 301)])
        assert known.unlooked == 300 - programs.EACH_SECOND
        assert list(known.look([asked])) == [""]
        clock.at += 1.0
        assert list(known.look([asked])) == [own_name()]
    assert known.unlooked == 301 - programs.EACH_SECOND


def test_a_socket_that_the_service_manager_holds_too_is_its_service_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manager is the oldest process, and hands its sockets on."""
    for pid, name, group in ((1, "systemd", "init.scope"), (77, "sshd", "system.slice/ssh.service")):
        (tmp_path / f"{pid}/fd").mkdir(parents=True)
        (tmp_path / f"{pid}/fd/3").symlink_to("socket:[4242]")
        (tmp_path / f"{pid}/fd/4").symlink_to("socket:[4243]" if pid == 1 else "pipe:[1]")
        (tmp_path / f"{pid}/comm").write_text(f"{name}\n", encoding="ascii")
        (tmp_path / f"{pid}/cgroup").write_text(f"0::/{group}\n", encoding="ascii")
    monkeypatch.setattr(programs, "held", lambda *_: ([4242, 4243], 0.0))

    class Both(Places):
        def members(self, inode: int) -> tuple[int, ...]:
            assert inode == HERE
            return 77, 1

    known = KnownPrograms(Both(), proc=tmp_path)
    assert list(known.look([server(22), server(23)])) == ["sshd (ssh.service)", "systemd"]


# What a program is called


@pytest.mark.parametrize(
    ("group", "host", "unit", "shown"),
    [
        ("system.slice/shop.service", True, "shop.service", "shop (shop.service)"),
        ("user.slice/user-1.slice/session-1.scope", True, "", "shop"),
        ("system.slice/docker-{}.scope", True, "", "shop (container abababababab)"),
        ("system.slice/docker.service/docker/{}", True, "", "shop (container abababababab)"),
        ("system.slice/docker-{}.scope", False, "", "shop"),
        ("machine.slice/libpod-{}.scope/system.slice/db.service", False, "db.service", "shop (db.service)"),
    ],
)
def test_the_unit_or_the_container(tmp_path: Path, group: str, host: bool, unit: str, shown: str) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5/comm").write_text("shop\n", encoding="ascii")
    (tmp_path / "5/cgroup").write_text(f"0::/{group.format('ab' * 32)}\n", encoding="ascii")
    found = program(5, tmp_path)
    assert found is not None
    assert found.unit == unit
    assert text(found, host=host) == shown


def test_a_name_that_the_kernel_cut_is_its_file_s_and_any_other_is_as_it_was_set(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5/cgroup").write_text("0::/\n", encoding="ascii")
    (tmp_path / "5/exe").symlink_to("/usr/lib/postgresql-15-server (deleted)")
    for comm, name in (("postgresql-15-s", "postgresql-15-server"), ("wget", "wget"), ("postgresql-16-s",) * 2):
        (tmp_path / "5/comm").write_text(f"{comm}\n", encoding="ascii")
        assert program(5, tmp_path) == Program(name)
    assert program(6, tmp_path) is None


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_name_steers_a_terminal_or_passes_for_more_than_a_name(name: str, unit: str) -> None:
    shown = text(Program(name, f"{unit}.service"), host=True)
    assert shown.isprintable()
    assert (shown.count("("), shown.count(")"), shown.count(",")) == (1, 1, 0)


def test_a_process_is_called_what_it_calls_itself_and_its_arguments_are_not_read() -> None:
    """In a thread of its own, whose name alone that is; what is looked at is the process."""
    words = [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()", "--password=hunter2"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        made.stdout.readline()
        found = program(made.pid)
        assert found is not None
        assert found.name == Path(sys.executable).resolve().name[:15] or found.name.startswith("python")
        assert made.stdin is not None
        made.stdin.close()
    libc = ctypes.CDLL(None)
    seen: list[Program | None] = []

    def named() -> None:
        libc.prctl(15, b"\x1b]0;evil\x07", 0, 0, 0)
        seen.append(program(threading.get_native_id()))

    thread = threading.Thread(target=named)
    thread.start()
    thread.join()
    assert seen[0] is not None
    assert text(seen[0], host=True).isprintable()


# Another namespace


@pytest.fixture
def room() -> Iterator[BareRoom]:
    with bare_room() as made:
        assert not made.run("ip", "link", "set", "lo", "up").stderr
        yield made


@pytest.mark.real
def test_the_programs_of_another_namespace_are_found_there_and_not_here(room: BareRoom) -> None:
    inode = Path(room.netns).stat().st_ino
    words = ["nsenter", f"--net={room.netns}", "--", sys.executable, "-c", SERVE]
    with (
        socket.create_server(("127.0.0.1", 0)),
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made,
    ):
        assert made.stdout is not None
        assert made.stdin is not None
        number = int(made.stdout.readline())
        talks = LocalSocket(LINK, TCP, packed("127.0.0.1"), number, packed("127.0.0.1"), 8080, serves=False)
        asked = [talks, server(8080, place=LINK), server(5353, protocol=UDP, place=LINK), server(8080)]
        there = Room(room.netns, inode)
        every = tuple(sorted(pids(), reverse=True))
        found = KnownPrograms(Places(every, **{LINK: there})).look(asked)
        name = text(program(made.pid) or Program("gone"), host=False)
        assert list(found) == [name] * 3 + [""]
        another = KnownPrograms(Places(every, **{LINK: there._replace(inode=inode + 1)}))
        assert list(another.look(asked)) == [""] * 4, "the path leads to another namespace by now"
        made.stdin.close()
    assert namespace_of(os.getpid()) == HERE
