"""What the real kernel tells of connections: packets that rules log, and what ended connections carried."""

import ipaddress
import json
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nft_rooms import Room, bare_room

from stockade.adapters.netfilter import ended, nflog
from stockade.adapters.netfilter.conntrack import Conntrack
from stockade.adapters.netfilter.flows import KernelFlows
from stockade.adapters.netfilter.logged import PACKETS, PacketReader, decided
from stockade.adapters.netfilter.messages import attribute
from stockade.adapters.netfilter.nflog import PacketLog
from stockade.agent.flows.dns import Answer
from stockade.agent.flows.resolvers import Resolvers
from stockade.core.compile.nft.recording import GROUP, answered
from stockade.seams.flows import Decision, Ended

SETUP = f"""
ip link set lo up
ip address add 10.0.0.1/32 dev lo
ip address add 10.0.0.2/32 dev lo
ip route add 10.0.0.8/30 dev lo
ip address add fd00::1/128 dev lo nodad
ip address add fd00::2/128 dev lo nodad
nft add table inet t
nft add chain inet t out '{{ type filter hook output priority 0; }}'
nft add rule inet t out oifname lo udp dport 9 log prefix '"edr-nine"' group {GROUP} drop
nft add rule inet t out ct direction original ct state new log prefix '"ear-other"' group {GROUP}
nft add table ip n
nft add chain ip n out '{{ type nat hook output priority -100; }}'
nft add rule ip n out ip daddr 10.0.0.9 tcp dport 80 dnat to 10.0.0.2:8080
"""
TALK = """
import json, socket, sys, threading
def serve(family, address, port):
    s = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port)); s.listen(100)
    def run():
        while True:
            c, _ = s.accept()
            while data := c.recv(65536):
                c.sendall(data)
            c.close()
    threading.Thread(target=run, daemon=True).start()
serve(4, "10.0.0.2", 8080); serve(6, "fd00::2", 8080)
for kind, family, source, destination, port, size in json.load(sys.stdin):
    inet = socket.AF_INET6 if family == 6 else socket.AF_INET
    if kind == "tcp":
        with socket.socket(inet, socket.SOCK_STREAM) as s:
            s.bind((source, 0)); s.connect((destination, port)); s.sendall(b"x" * size)
            got = 0
            while got < size:
                got += len(s.recv(65536))
    else:
        with socket.socket(inet, socket.SOCK_DGRAM) as s:
            s.bind((source, 0))
            try:
                s.sendto(b"x" * size, (destination, port))
            except PermissionError:
                pass
"""


@pytest.fixture
def room() -> Iterator[Room]:
    with bare_room() as made:
        assert not made.run("sh", "-ec", SETUP).stderr
        yield made


def talk(room: Room, *sent: tuple[str, int, str, str, int, int]) -> None:
    subprocess.run(
        ["nsenter", f"--net={room.netns}", sys.executable, "-c", TALK],
        input=json.dumps(sent),
        text=True,
        check=True,
        timeout=60,
    )


def heard(flows: KernelFlows, enough: Callable[[list[Decision], list[Ended]], bool]) -> tuple[list, list]:
    decisions, over, until = [], [], time.monotonic() + 30
    while not enough(decisions, over):
        assert time.monotonic() < until, (decisions, over)
        some = flows.read(0.5)
        decisions += some.decisions
        over += some.ended
    return decisions, over


def text(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


@pytest.mark.real
def test_what_rules_log_is_heard_with_its_prefix_and_its_connection(room: Room) -> None:
    flows = KernelFlows(room.netns)
    try:
        talk(
            room,
            ("udp", 4, "10.0.0.1", "10.0.0.2", 9, 3),
            ("udp", 6, "fd00::1", "fd00::2", 9, 5),
            ("tcp", 6, "fd00::1", "fd00::2", 8080, 1000),
        )
        decisions, _ = heard(flows, lambda some, _: len(some) >= 3)
        told = [(d.prefix, d.protocol, text(d.source), text(d.destination), d.port, d.length) for d in decisions]
        assert told[:2] == [
            (b"edr-nine", 17, "10.0.0.1", "10.0.0.2", 9, 31),
            (b"edr-nine", 17, "fd00::1", "fd00::2", 9, 53),
        ]
        assert told[2][:5] == (b"ear-other", 6, "fd00::1", "fd00::2", 8080)
        assert len(decisions) == 3, "each connection once"
        assert flows.losses() == (
            ("nflog", "decisions", 0),
            ("nflog", "answers of resolvers", 0),
            ("conntrack", "overruns", 0),
        )
    finally:
        flows.close()


@pytest.mark.real
def test_an_ended_connection_tells_what_it_carried_and_where_it_really_led(room: Room) -> None:
    flows = KernelFlows(room.netns)
    try:
        assert flows.unaccounted == ()
        talk(room, ("tcp", 4, "10.0.0.1", "10.0.0.9", 80, 50_000))
        tracking = Conntrack(room.netns)
        for connection in list(tracking.connections()):
            tracking.end(connection)
        tracking.close()
        _, over = heard(flows, lambda _, ended_ones: any(each.protocol == 6 for each in ended_ones))
        (tcp,) = [each for each in over if each.protocol == 6]
        assert (text(tcp.source), text(tcp.destination), tcp.port) == ("10.0.0.1", "10.0.0.2", 8080)
        assert (text(tcp.opened_to), tcp.opened_port) == ("10.0.0.9", 80)
        assert tcp.bytes_out > 50_000
        assert tcp.bytes_in > 50_000
        assert tcp.packets >= 10
        assert tcp.seconds > 0
    finally:
        flows.close()


@pytest.mark.real
def test_a_second_reader_of_the_group_is_refused_and_the_first_goes_on(room: Room) -> None:
    flows = KernelFlows(room.netns)
    try:
        with pytest.raises(OSError, match=f"NFLOG group {GROUP}"):
            KernelFlows(room.netns)
        talk(room, ("udp", 4, "10.0.0.1", "10.0.0.2", 9, 3))
        decisions, _ = heard(flows, lambda some, _: bool(some))
        assert decisions[0].prefix == b"edr-nine"
    finally:
        flows.close()


@pytest.mark.real
def test_what_is_lost_is_counted_to_the_packet(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads while far more is logged than waits: heard and lost together are all that was sent."""
    monkeypatch.setattr(nflog, "ROOM", 1 << 16)
    log = PacketLog(GROUP, room.netns)
    try:
        sent = 6000
        talk(room, *(("udp", 4, "10.0.0.1", "10.0.0.2", 9, 1) for _ in range(sent)))
        found, until = log.read(), time.monotonic() + 30
        while some := log.read():
            found += some
        while len(found) + log.lost < sent or not log.lost:
            assert time.monotonic() < until, (len(found), log.lost)
            talk(room, ("udp", 4, "10.0.0.1", "10.0.0.2", 9, 1))  # its number shows what was lost before it
            sent += 1
            time.sleep(2 * nflog.TENTHS / 100)
            found += log.read()
        assert len(found) + log.lost == sent
        assert log.lost > 0
    finally:
        log.close()


RESOLVE = """
import socket, struct, sys
resolver, stranger, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3))
resolver.bind(("10.0.0.2", 53)); stranger.bind(("10.0.0.1", 53)); client.bind(("10.0.0.1", 0))
question = b"\\7api-one\\7example\\0" + struct.pack("!HH", 1, 1)
def answer(name):
    told = b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 300, 4) + socket.inet_aton("198.51.100.7")
    return struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 0) + question.replace(b"one", name) + told
stranger.sendto(answer(b"bad"), client.getsockname())
client.sendto(struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question, ("10.0.0.2", 53))
_, asker = resolver.recvfrom(512)
resolver.sendto(answer(b"one"), asker)
client.settimeout(10)
while client.recvfrom(512)[1][0] != "10.0.0.2":
    pass
"""


@pytest.mark.real
def test_what_a_resolver_answers_to_who_asked_is_heard_and_what_nobody_asked_for_is_not(room: Room) -> None:
    for where in ("postrouting", "input"):
        chain = f"nft add chain inet t {where} '{{ type filter hook {where} priority 310; }}'"
        rules = "\n".join(f"nft add rule inet t {where} '{each}'" for each in answered())
        assert not room.run("sh", "-ec", f"{chain}\n{rules}").stderr
    flows = KernelFlows(room.netns)
    try:
        words = ["nsenter", f"--net={room.netns}", sys.executable, "-c", RESOLVE]
        subprocess.run(words, check=True, timeout=60)
        found, until = [], time.monotonic() + 30
        while len(found) < 2:
            assert time.monotonic() < until, found
            found += flows.read(0.5).answers
        resolvers = Resolvers()
        read = {answer for each in found for answer in resolvers.read(each)}
        ends = ipaddress.ip_address("10.0.0.1").packed, ipaddress.ip_address("10.0.0.2").packed
        assert read == {Answer(*ends, "api-one.example", (ipaddress.ip_address("198.51.100.7").packed,), 300)}
        assert flows.losses()[1] == ("nflog", "answers of resolvers", 0)
    finally:
        flows.close()


# Decoding


def four(protocol: int, body: bytes, fragment: int = 0, options: bytes = b"") -> bytes:
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x40 | 5 + len(options) // 4, 0, 20 + len(options) + len(body), 1, fragment, 64, protocol, 0,
        bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]),
    )  # fmt: skip
    return head + options + body


def six(first: int, body: bytes) -> bytes:
    ends = ipaddress.ip_address("fd00::1").packed + ipaddress.ip_address("fd00::2").packed
    return struct.pack(">IHBB", 6 << 28, len(body), first, 64) + ends + body


PORTS = struct.pack(">HHI", 4000, 443, 0xDEADBEEF)


@pytest.mark.parametrize(
    ("packet", "protocol", "port", "nonce"),
    [
        (four(6, PORTS), 6, 443, struct.pack(">HI", 4000, 0xDEADBEEF)),
        (four(6, PORTS, options=bytes(8)), 6, 443, struct.pack(">HI", 4000, 0xDEADBEEF)),
        (four(17, PORTS), 17, 443, struct.pack(">H", 4000)),
        (four(17, PORTS, fragment=0x2000), 17, 443, struct.pack(">H", 4000)),  # the first fragment has the ports
        (four(17, PORTS, fragment=0x0010), 17, 0, b""),
        (four(1, struct.pack(">BBHHH", 8, 0, 0, 77, 1)), 1, 2048, struct.pack(">H", 77)),
        (four(47, bytes(8)), 47, 0, b""),
        (four(6, b""), 6, 0, b""),
        (six(17, PORTS), 17, 443, struct.pack(">H", 4000)),
        (six(0, bytes([17, 0, 0, 0, 0, 0, 0, 0]) + PORTS), 17, 443, struct.pack(">H", 4000)),
        (six(44, bytes([17, 0, 0, 1, 0, 0, 0, 1]) + PORTS), 17, 443, struct.pack(">H", 4000)),
        (six(44, bytes([17, 0, 0, 9, 0, 0, 0, 1]) + PORTS), 17, 0, b""),
    ],
)
def test_the_connection_of_a_packet(packet: bytes, protocol: int, port: int, nonce: bytes) -> None:
    found = decided(b"x", packet)
    assert found is not None
    assert (found.protocol, found.port, found.nonce, found.length) == (protocol, port, nonce, len(packet))


@given(st.binary(max_size=120))
def test_no_packet_is_too_strange(packet: bytes) -> None:
    found = decided(b"x", packet)
    assert found is None or len(found.source) in (4, 16)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def logged(number: int, packet: bytes, prefix: bytes = b"ia0123456789ab\0", *, link: bool = False) -> bytes:
    parts = [(10, prefix), (4, bytes(4)), *([(16, bytes(14))] if link else []), (12, struct.pack(">I", number))]
    return message(PACKETS, bytes([2, 0, 0, 0]) + b"".join(attribute(*each) for each in (*parts, (9, packet))))


PIECES = st.one_of(
    st.builds(four, st.sampled_from([6, 17, 1, 132]), st.sampled_from([PORTS, PORTS + bytes(12), b"", bytes(3)])),
    st.builds(four, st.just(17), st.just(PORTS), fragment=st.sampled_from([0, 0x2000, 0x4000, 0x0010, 0x2010])),
    st.builds(four, st.just(6), st.just(PORTS), options=st.sampled_from([b"", bytes(8)])),
    st.builds(six, st.sampled_from([6, 17, 58]), st.just(PORTS)),
    st.binary(max_size=70),
)
SAID = st.builds(
    logged,
    st.integers(0, 0xFFFF_FFFF),
    PIECES,
    st.sampled_from([b"ia0123456789ab\0", b"ed0\0", b"\0", b""]),
    link=st.booleans(),
)
TORN = st.builds(lambda whole, place, octet: whole[:place] + bytes([octet]) + whole[place + 1 :],
                 SAID, st.integers(16, 60), st.integers(0, 255))  # fmt: skip


@given(st.lists(SAID, max_size=12))
def test_a_message_says_the_same_after_others_as_alone(messages: list[bytes]) -> None:
    """Messages like the one before are read in fewer steps, and never otherwise."""
    together: list[Decision] = []
    alone: list[Decision] = []
    PacketReader().decode(b"".join(messages), together)
    for each in messages:
        PacketReader().decode(each, alone)
    assert together == alone


@given(st.lists(st.one_of(SAID, TORN), max_size=12), st.integers(0, 40))
def test_no_logged_message_is_too_strange(messages: list[bytes], cut: int) -> None:
    """What cannot be read is passed over, and reading ends."""
    found: list[Decision] = []
    data = b"".join(messages)
    PacketReader().decode(data[: max(0, len(data) - cut)], found)
    assert len(found) <= len(messages)


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 0xFFFF_FFFF))
def test_numbers_that_are_left_out_are_counted(gaps: list[int], number: int) -> None:
    reader, found = PacketReader(), list[Decision]()
    for place, gap in enumerate(gaps):
        number = number + 1 + gap & 0xFFFF_FFFF
        reader.decode(logged(number, four(6, PORTS) if place % 3 else six(6, PORTS)), found)
    assert (len(found), reader.lost) == (len(gaps), sum(gaps[1:]))


@given(st.lists(st.binary(max_size=80), max_size=5))
def test_no_datagram_is_too_strange(parts: list[bytes]) -> None:
    """Whole heads, contents of any kind: what cannot be read is passed over, and reading ends."""
    found: list[Ended] = []
    data = b"".join(message(ended.SUBSYSTEM << 8 | ended.DELETED, bytes([2, 0, 0, 0]) + each) for each in parts)
    ended.decode(data, found)
    assert Counter(type(each) for each in found).keys() <= {Ended}
