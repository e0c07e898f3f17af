"""Connection tracking of the real kernel, in a namespace of the test's own."""

import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nft_rooms import Room, bare_room

from stockade.adapters.netfilter import conntrack
from stockade.adapters.netfilter.conntrack import Conntrack
from stockade.core.model.ids import Address
from stockade.seams.kernel import Connection

pytestmark = pytest.mark.real
SETUP = """
ip link set lo up
ip address add 10.0.0.1/32 dev lo
ip address add 10.0.0.2/32 dev lo
ip address add 10.1.0.1/16 dev lo
ip route add 10.0.0.8/30 dev lo
ip address add fd00::1/128 dev lo nodad
ip address add fd00::2/128 dev lo nodad
nft add table inet t
nft add chain inet t out '{ type filter hook output priority 0; }'
nft add rule inet t out ct state new accept
nft add table ip n
nft add chain ip n out '{ type nat hook output priority -100; }'
nft add rule ip n out ip daddr 10.0.0.9 udp dport 53 dnat to 10.0.0.2:5353
"""
TALK = """
import json, socket, sys
for family, source, destination, port in json.load(sys.stdin):
    s = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((source, 4000))
    s.sendto(b"x", (destination, port))
    s.close()
"""
PING = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
    s.sendto(bytes([8, 0, 0xEE, 0xFD, 0x11, 1, 0, 1]), ("10.0.0.2", 0))
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
    s.sendto(bytes([128, 0, 0, 0, 0x11, 2, 0, 1]), ("fd00::2", 0))
"""
SPEAK = """
import socket, sys
at, back = sys.argv[1:]
with socket.create_server((at, 0), family=socket.AF_INET6 if ":" in at else socket.AF_INET) as server:
    client = socket.create_connection(server.getsockname()[:2])
    peer, _ = server.accept()
print(peer.getsockname()[1], flush=True)
input()
speaker, hearer = (peer, client) if back == "back" else (client, peer)
speaker.sendall(b"x")
hearer.recv(1)
print("spoken", flush=True)
input()
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Room]:
    with bare_room() as made:
        made.run("sh", "-c", SETUP)
        yield made


@pytest.fixture
def room(shared: Room) -> Room:
    tracking = Conntrack(shared.netns)
    for connection in list(tracking.connections()):
        tracking.end(connection)
    tracking.close()
    return shared


@pytest.fixture
def tracking(room: Room) -> Iterator[Conntrack]:
    made = Conntrack(room.netns)
    yield made
    made.close()


def talk(room: Room, *sent: tuple[int, str, str, int]) -> None:
    """Send a UDP datagram for each (family, source, destination, port), in the namespace."""
    subprocess.run(
        ["nsenter", f"--net={room.netns}", sys.executable, "-c", TALK],
        input=json.dumps(sent),
        text=True,
        check=True,
        timeout=60,
    )


def found(tracking: Conntrack) -> list[tuple[str, str, int]]:
    return sorted((each.source, each.destination, each.destination_port) for each in tracking.connections())


def test_both_tuples_are_read_with_their_translation(room: Room, tracking: Conntrack) -> None:
    talk(room, (4, "10.0.0.1", "10.0.0.9", 53), (6, "fd00::1", "fd00::2", 99))
    four, six = sorted(tracking.connections(), key=lambda each: each.source)
    expected = Connection(17, "10.0.0.1", "10.0.0.9", 4000, 53, "10.0.0.2", "10.0.0.1", 5353, 4000, id=four.id)
    assert four == expected
    assert six == Connection(17, "fd00::1", "fd00::2", 4000, 99, "fd00::2", "fd00::1", 99, 4000, id=six.id)
    assert four.id
    assert six.id


def test_icmp_shows_type_and_code_and_can_be_ended(room: Room, tracking: Conntrack) -> None:
    assert room.run(sys.executable, "-c", PING).stderr == ""
    seen = {each.protocol: each for each in tracking.connections()}
    assert (seen[1].source_port, seen[58].source_port) == (0x1101, 0x1102)
    assert (seen[1].icmp, seen[58].icmp) == (8 << 8, 128 << 8)
    assert tracking.end(seen[1])
    assert tracking.end(seen[58])
    assert found(tracking) == []


def test_a_mark_is_set_bit_by_bit_and_found_by_the_kernel(room: Room, tracking: Conntrack) -> None:
    talk(room, (4, "10.0.0.1", "10.0.0.2", 1), (4, "10.0.0.1", "10.0.0.2", 2), (6, "fd00::1", "fd00::2", 3))
    one, two, six = sorted(tracking.connections(), key=lambda each: each.destination_port)
    assert tracking.mark(one, 0x0500)
    assert tracking.mark(six, 0x0400)
    assert sorted(each.destination_port for each in tracking.connections(0x0400, 0x0400)) == [1, 3]
    assert [each.destination_port for each in tracking.connections(0x0500, 0x0500)] == [1]
    assert [each.destination_port for each in tracking.connections(0, 0x0400)] == [2]
    # Who last saw it without a mark does not clear what somebody else has set since.
    assert tracking.mark(one, 0x0001)
    assert next(iter(tracking.connections(0x0001, 0x0001))).mark == 0x0501
    assert tracking.mark(two, 0)


@pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2"])
@pytest.mark.parametrize("first", ["forth", "back"])
def test_a_connection_that_was_met_in_the_middle_is_told_from_one_that_was_seen_to_begin(
    room: Room, tracking: Conntrack, address: str, first: str
) -> None:
    command = ["nsenter", f"--net={room.netns}", sys.executable, "-c", SPEAK, address, first]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as speaking:
        assert speaking.stdin
        assert speaking.stdout
        port = int(speaking.stdout.readline())
        (begun,) = tracking.connections()
        assert (begun.midway, begun.destination_port, list(tracking.midway())) == (False, port, [])
        tracking.end(begun)
        speaking.stdin.write("\n")
        speaking.stdin.flush()
        assert speaking.stdout.readline() == "spoken\n"
        (met,) = tracking.midway()
        assert met.midway
        assert port == (met.source_port if first == "back" else met.destination_port)
        assert [each.midway for each in tracking.connections()] == [True]
        tracking.end(met)
        speaking.stdin.write("\n")


def test_an_entry_is_ended_once_and_never_in_place_of_its_successor(room: Room, tracking: Conntrack) -> None:
    talk(room, (4, "10.0.0.1", "10.0.0.2", 1))
    (old,) = tracking.connections()
    assert tracking.end(old)
    assert not tracking.end(old)
    assert not tracking.mark(old, 1)
    talk(room, (4, "10.0.0.1", "10.0.0.2", 1))
    (new,) = tracking.connections()
    successor = msgspec.structs.replace(old, id=new.id ^ 1)
    assert not tracking.end(successor)
    assert found(tracking) == [("10.0.0.1", "10.0.0.2", 1)]
    assert tracking.end(new)


@pytest.fixture(params=["each looked for", "all read"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel look for each address, as in a full table, or read everything, as in one that is nearly empty."""
    monkeypatch.setattr(conntrack, "WALK", 0 if request.param == "each looked for" else conntrack.WALK)


@pytest.mark.usefixtures("way")
def test_an_address_is_forgotten_at_either_end_and_behind_translation(room: Room, tracking: Conntrack) -> None:
    talk(
        room,
        (4, "10.0.0.1", "10.0.0.2", 1),
        (4, "10.0.0.2", "10.0.0.1", 2),
        (4, "10.0.0.1", "10.0.0.9", 53),
        (4, "10.0.0.1", "10.1.0.1", 3),
        (6, "fd00::1", "fd00::2", 4),
    )
    assert tracking.forget([Address("10.0.0.2")]) == 3
    assert found(tracking) == [("10.0.0.1", "10.1.0.1", 3), ("fd00::1", "fd00::2", 4)]
    assert tracking.forget([Address("10.0.0.2"), Address("fd00::2")]) == 1
    assert tracking.forget([]) == 0
    assert found(tracking) == [("10.0.0.1", "10.1.0.1", 3)]


@pytest.mark.usefixtures("way")
def test_many_addresses_are_forgotten(room: Room, tracking: Conntrack) -> None:
    others = [str(ipaddress.ip_address("10.1.0.10") + n) for n in range(40)]
    talk(room, *[(4, "10.0.0.1", other, 7) for other in others])
    gone = others[:30]
    assert tracking.forget(map(Address, gone)) == 30
    assert [destination for _, destination, _ in found(tracking)] == sorted(others[30:])


@pytest.mark.usefixtures("way")
def test_a_foreign_zone_is_passed_over_but_forgotten(room: Room, tracking: Conntrack) -> None:
    room.run("nft", "add chain inet t raw { type filter hook output priority -300; }")
    room.run("nft", "add rule inet t raw udp dport 77 ct zone set 5")
    talk(room, (4, "10.0.0.1", "10.0.0.2", 77), (4, "10.0.0.1", "10.0.0.2", 78))
    room.run("nft", "flush chain inet t raw")
    assert found(tracking) == [("10.0.0.1", "10.0.0.2", 78)]
    assert tracking.fill().entries == 2
    assert tracking.forget([Address("10.0.0.2")]) == 2
    assert tracking.fill().entries == 0


def test_the_table_says_how_full_it_is(room: Room, tracking: Conntrack) -> None:
    talk(room, (4, "10.0.0.1", "10.0.0.2", 1), (6, "fd00::1", "fd00::2", 4))
    fill = tracking.fill()
    assert fill.entries == 2
    assert fill.limit == int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
    assert fill.lost == 0


def test_ending_while_walking_leaves_nothing(room: Room, tracking: Conntrack) -> None:
    talk(room, *[(4, "10.0.0.1", str(ipaddress.ip_address("10.1.0.10") + n), 7) for n in range(600)])
    ended = sum(tracking.end(each) for each in tracking.connections())
    assert ended + sum(tracking.end(each) for each in tracking.connections()) == 600
    assert found(tracking) == []
