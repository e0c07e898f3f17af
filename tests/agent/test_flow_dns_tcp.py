"""Answers of resolvers over TCP: put together from segments as they come, followed no further than is bounded."""

import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.agent.flows.dns import Answer
from stockade.agent.flows.resolvers import CONNECTIONS, EARLY, LONGEST, Resolvers

WEB, API, RESOLVER, OUTSIDE = "10.0.0.1", "10.0.0.2", "10.0.0.53", "198.51.100.7"
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
FIRST = 4_000_000_000
"""The sequence number of a connection's first byte, unless a test says otherwise."""


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def message(name: str, address: str = OUTSIDE, padding: int = 0) -> bytes:
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\0"
    records = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 300, 4) + packed(address)
    records += b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 300, padding) + bytes(padding)
    whole = struct.pack("!HHHHHH", 7, 0x8180, 1, 2, 0, 0) + labels + struct.pack("!HH", 1, 1) + records
    return struct.pack("!H", len(whole)) + whole


def segment(
    data: bytes = b"",
    at: int = 0,
    flags: int = ACK,
    *,
    first: int = FIRST,
    source: str = RESOLVER,
    to: str = WEB,
    port: int = 40_000,
) -> bytes:
    sequence = (first + at) % (1 << 32)
    tcp = struct.pack("!HHIIBBHHH", 53, port, sequence, 1, 8 << 4, flags, 1000, 0, 0) + b"\1" * 12 + data
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + packed(source) + packed(to) + tcp
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0)
    return head + packed(source) + packed(to) + tcp


def begun(**how: object) -> bytes:
    return segment(at=-1, flags=SYN | ACK, **how)  # type: ignore[arg-type]


def names(resolvers: Resolvers, *packets: bytes) -> list[str]:
    return [each.name for packet in packets for each in resolvers.read(packet)]


def test_an_answer_names_its_addresses_for_who_asked() -> None:
    resolvers = Resolvers()
    assert resolvers.read(begun()) == []
    assert resolvers.read(segment(message("api.example.com"))) == [
        Answer(packed(WEB), packed(RESOLVER), "api.example.com", (packed(OUTSIDE),), 300)
    ]
    assert names(resolvers, segment(flags=FIN | ACK, at=200)) == []
    assert resolvers.lost == 0


def test_over_ipv6_as_well() -> None:
    way = {"source": "fd00::53", "to": "fd00::1"}
    resolvers = Resolvers()
    resolvers.read(begun(**way))
    (found,) = resolvers.read(segment(message("a.example"), **way))  # type: ignore[arg-type]
    assert (found.asker, found.resolver, found.name) == (packed("fd00::1"), packed("fd00::53"), "a.example")


def test_several_answers_in_one_segment_and_one_in_many() -> None:
    told = message("one.example") + message("two.example") + message("three.example")
    assert names(Resolvers(), begun(), segment(told)) == ["one.example", "two.example", "three.example"]
    bytewise = [segment(told[at : at + 1], at) for at in range(len(told))]
    assert names(Resolvers(), begun(), *bytewise) == ["one.example", "two.example", "three.example"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_way_they_come_the_same_is_read(data: st.DataObject) -> None:
    """Cut anywhere, sent again in other pieces, late by as many as are waited for; the numbers begin anew meanwhile."""
    told = message("one.example") + message("two.example", padding=40) + message("three.example")
    first = data.draw(st.sampled_from([0, FIRST, (1 << 32) - 7, (1 << 32) - len(told)]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(told) - 1), max_size=8)))
    pieces = [(at, told[at:end]) for at, end in zip([0, *cuts], [*cuts, len(told)], strict=True)]
    order = list(range(len(pieces)))
    for at in range(len(order) - 1):
        if data.draw(st.booleans()):
            late = min(at + data.draw(st.integers(1, EARLY)), len(order) - 1)
            order.insert(late, order.pop(at))
            break
    sent = [pieces[each] for each in order]
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(told) - 1))
        again = told[start : start + data.draw(st.integers(0, 60))]
        known = max((at + len(each) for at, each in sent), default=0)
        if start + len(again) <= known:
            sent.append((start, again))
    resolvers = Resolvers()
    packets = [begun(first=first), *(segment(each, at, first=first) for at, each in sent)]
    assert names(resolvers, *packets) == ["one.example", "two.example", "three.example"]
    assert resolvers.lost == 0


def test_what_began_before_is_not_heard() -> None:
    resolvers = Resolvers()
    assert names(resolvers, segment(message("api.example.com"))) == []
    assert resolvers.lost == 0, "nobody knows what it was"


def test_connections_are_not_mixed() -> None:
    told = message("web.example"), message("api.example")
    halves = [(each[:20], each[20:]) for each in told]
    resolvers = Resolvers()
    names(resolvers, begun(to=WEB), begun(to=API))
    names(resolvers, segment(halves[0][0], to=WEB), segment(halves[1][0], to=API))
    (api,) = resolvers.read(segment(halves[1][1], 20, to=API))
    (web,) = resolvers.read(segment(halves[0][1], 20, to=WEB))
    assert (api.asker, api.name, web.asker, web.name) == (packed(API), "api.example", packed(WEB), "web.example")


def test_one_that_begins_anew_has_nothing_of_the_one_before() -> None:
    told = message("api.example.com")
    resolvers = Resolvers()
    assert names(resolvers, begun(), segment(told[:20]), begun(first=77), segment(told, first=77)) == [
        "api.example.com"
    ]
    assert names(resolvers, segment(flags=RST, first=77), segment(told, len(told), first=77)) == []


def test_where_something_is_missing_no_more_is_heard_and_that_is_counted() -> None:
    resolvers = Resolvers()
    told = message("api.example.com")
    names(resolvers, begun())
    for number in range(1, EARLY + 1):
        assert names(resolvers, segment(told, number * len(told))) == []
    assert resolvers.lost == 0
    assert names(resolvers, segment(told, (EARLY + 1) * len(told))) == []
    assert resolvers.lost == 1
    assert names(resolvers, segment(told)) == []


@pytest.mark.parametrize(
    ("last", "read"),
    [
        (segment(struct.pack("!H", LONGEST + 1)), []),
        (segment(message("whole.example") + message("a.example", padding=3000))[:400], ["whole.example"]),
    ],
    ids=["a message that is too long", "a segment that was logged in part"],
)
def test_what_cannot_be_read_ends_it_and_is_counted(last: bytes, read: list[str]) -> None:
    resolvers = Resolvers()
    assert names(resolvers, begun(), last) == read
    assert resolvers.lost == 1
    assert names(resolvers, segment(message("api.example.com"), 2)) == []


def test_of_very_many_the_last_are_followed() -> None:
    resolvers = Resolvers()
    names(resolvers, *(begun(port=port) for port in range(1000, 1000 + CONNECTIONS + 2)))
    assert resolvers.lost == 2
    told = message("api.example.com")
    assert names(resolvers, segment(told, port=1001)) == []
    assert names(resolvers, segment(told, port=1002)) == ["api.example.com"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bytes_raise(data: st.DataObject) -> None:
    resolvers = Resolvers()
    resolvers.read(begun())
    for _ in range(3):
        bent = bytearray(segment(message("api.example.com"), data.draw(st.integers(0, 80))))
        for _ in range(data.draw(st.integers(0, 6))):
            bent[data.draw(st.integers(0, len(bent) - 1))] = data.draw(st.integers(0, 255))
        resolvers.read(bytes(bent[: data.draw(st.integers(0, len(bent)))]))
