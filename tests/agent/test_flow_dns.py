"""Answers of resolvers: what is read of real ones, of hostile ones, and whom they name what for."""

import ipaddress
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.agent.flows import told as module
from stockade.agent.flows.dns import MOST_RECORDS, Answer
from stockade.agent.flows.names import Names
from stockade.agent.flows.recording import Recording
from stockade.agent.flows.resolvers import Resolvers
from stockade.agent.flows.told import EACH, ENDS, LEAST, LONGEST, SOON, Told
from stockade.core.compile.nft.recording import Said, prefix
from stockade.core.model.flow_table import flows
from stockade.core.model.ids import Address, RuleId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.seams.flows import Decision

WEB, RESOLVER, OUTSIDE = "10.0.0.1", "10.0.0.53", "198.51.100.7"
A, CNAME, AAAA, TXT = 1, 5, 28, 16


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def label(name: str) -> bytes:
    return b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\0"


def record(name: bytes, kind: int, content: bytes, ttl: int = 300) -> bytes:
    return name + struct.pack("!HHIH", kind, 1, ttl, len(content)) + content


def message(name: str, *records: bytes, kind: int = A, flags: int = 0x8180, count: int | None = None) -> bytes:
    head = struct.pack("!HHHHHH", 7, flags, 1, len(records) if count is None else count, 0, 0)
    return head + label(name) + struct.pack("!HH", kind, 1) + b"".join(records)


def read(whole: bytes) -> Answer | None:
    found = Resolvers().read(whole)
    assert len(found) <= 1
    return found[0] if found else None


def packet(content: bytes, source: str = RESOLVER, to: str = WEB, port: int = 53) -> bytes:
    udp = struct.pack("!HHHH", port, 40_000, 8 + len(content), 0) + content
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + packed(source) + packed(to) + udp
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    return head + packed(source) + packed(to) + udp


SELF = b"\xc0\x0c"
"""A pointer to the question's name."""
PLAIN = message("api.example.com", record(SELF, A, packed(OUTSIDE)))
CHAIN = message(
    "www.Example.com",
    record(SELF, CNAME, label("edge.example.net"), 30),
    record(label("edge.example.net"), CNAME, b"\x01x" + b"\xc0\x2d", 90),
)


def test_an_answer_names_its_addresses_for_who_asked() -> None:
    two = message("api.example.com", record(SELF, A, packed(OUTSIDE), 300), record(SELF, A, packed("198.51.100.8"), 60))
    assert read(packet(two)) == Answer(
        packed(WEB), packed(RESOLVER), "api.example.com", (packed(OUTSIDE), packed("198.51.100.8")), 60
    )
    six = message("v6.example.com", record(SELF, AAAA, packed("2001:db8::7")), kind=AAAA)
    found = read(packet(six, "fd00::53", "fd00::1"))
    assert found == Answer(packed("fd00::1"), packed("fd00::53"), "v6.example.com", (packed("2001:db8::7"),), 300)


def test_aliases_are_followed_and_the_shortest_life_counts() -> None:
    told = message(
        "WWW.example.com",
        record(label("edge.example.net"), A, packed(OUTSIDE), 500),
        record(SELF, CNAME, label("middle.example.org"), 300),
        record(label("middle.example.org"), CNAME, label("edge.example.net"), 20),
        record(label("other.example.org"), A, packed("203.0.113.1")),
        record(SELF, TXT, b"\x04evil"),
    )
    found = read(packet(told))
    assert found is not None
    assert (found.name, found.addresses, found.ttl) == ("www.example.com", (packed(OUTSIDE),), 20)


NO_ANSWER = {
    "a question": message("api.example.com", flags=0x0100),
    "cut off": message("api.example.com", record(SELF, A, packed(OUTSIDE)), flags=0x8380),
    "no such name": message("api.example.com", record(SELF, A, packed(OUTSIDE)), flags=0x8183),
    "a notification": message("api.example.com", record(SELF, A, packed(OUTSIDE)), flags=0xA180),
    "nothing": message("api.example.com"),
    "for another name": message("api.example.com", record(label("bank.example"), A, packed(OUTSIDE))),
    "of another kind": message("api.example.com", record(SELF, A, packed(OUTSIDE)), kind=AAAA),
    "too short an address": message("api.example.com", record(SELF, A, b"\1\2\3")),
    "too long an address": message("api.example.com", record(SELF, A, bytes(16))),
    "aliases in a circle": message(
        "a.example", record(SELF, CNAME, label("b.example")), record(label("b.example"), CNAME, SELF)
    ),
    "a pointer to itself": message("api.example.com", record(b"\xc0\x21", A, packed(OUTSIDE))),
    "a pointer ahead": message("api.example.com", record(b"\xc0\xff", A, packed(OUTSIDE))),
    "more records than there are": message("api.example.com", record(SELF, A, packed(OUTSIDE)), count=9),
    "very many records": message("api.example.com", *[record(SELF, A, packed(OUTSIDE))] * (MOST_RECORDS + 1)),
    "control characters": message("api\x1b.example", record(SELF, A, packed(OUTSIDE))),
    "script": message("<script>.example", record(SELF, A, packed(OUTSIDE))),
    "a quote": message("a'.example", record(SELF, A, packed(OUTSIDE))),
    "the root": message("", record(SELF, A, packed(OUTSIDE))).replace(b"\0\0\0\1\0\1", b"\0\0\1\0\1", 1),
    "a name that is too long": message(".".join(["a" * 63] * 5), record(SELF, A, packed(OUTSIDE))),
    "a label of a reserved kind": message("api.example.com", record(b"\x80\0", A, packed(OUTSIDE))),
}


@pytest.mark.parametrize("content", NO_ANSWER.values(), ids=NO_ANSWER.keys())
def test_what_names_nothing(content: bytes) -> None:
    assert read(packet(content)) is None


def test_pointers_that_lead_back_in_many_steps_end() -> None:
    """Each hop must lead further back than the last: a chain of pointers takes as many steps as it is long."""
    links = b"".join(struct.pack("!H", 0xC000 | (33 + 2 * at)) for at in range(400))
    told = message("api.example.com", record(SELF, TXT, links[:60]), record(b"\xc0\x50", A, packed(OUTSIDE)))
    assert read(packet(told)) is None


@pytest.mark.parametrize(
    "whole",
    [
        packet(PLAIN, port=5353),
        packet(PLAIN)[:40],
        packet(PLAIN)[:6] + b"\x20\x00" + packet(PLAIN)[8:],  # the first of several fragments
        packet(PLAIN)[:9] + b"\x06" + packet(PLAIN)[10:],
        b"",
        b"\x45",
        b"\x60" + bytes(40),
    ],
)
def test_what_is_no_whole_answer_of_a_resolver(whole: bytes) -> None:
    assert read(whole) is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([PLAIN, CHAIN, *NO_ANSWER.values()]), st.data())
def test_no_bytes_raise_and_no_name_is_more_than_a_name(content: bytes, data: st.DataObject) -> None:
    bent = bytearray(packet(content))
    for _ in range(data.draw(st.integers(0, 6))):
        bent[data.draw(st.integers(0, len(bent) - 1))] = data.draw(st.integers(0, 255))
    found = read(bytes(bent[: data.draw(st.integers(0, len(bent)))]))
    if found is not None:
        assert set(found.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
        assert 0 < len(found.name) <= 253
        assert {len(each) for each in found.addresses} <= {4, 16}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=600))
def test_no_message_is_too_strange(content: bytes) -> None:
    read(packet(content))
    read(content)


# Who knows what by which name


def answer(asker: str = WEB, name: str = "api.example.com", address: str = OUTSIDE, ttl: int = 300) -> Answer:
    return Answer(packed(asker), packed(RESOLVER), name, (packed(address),), ttl)


def test_a_name_is_for_who_asked_alone() -> None:
    told = Told()
    told.hear([answer(), answer("10.0.0.2", "bank.example")], 100.0)
    assert told.name(packed(WEB), packed(OUTSIDE), 101.0) == "api.example.com"
    assert told.name(packed("10.0.0.2"), packed(OUTSIDE), 101.0) == "bank.example"
    assert told.name(packed("10.0.0.3"), packed(OUTSIDE), 101.0) == ""
    assert told.name(packed(WEB), packed("198.51.100.8"), 101.0) == ""


@pytest.mark.parametrize(("ttl", "holds"), [(0, LEAST), (30, LEAST), (300, 300.0), (10**6, LONGEST), (2**31, LONGEST)])
def test_a_name_holds_as_long_as_it_says_within_bounds(ttl: int, holds: float) -> None:
    told = Told()
    told.hear([answer(ttl=ttl)], 100.0)
    assert told.name(packed(WEB), packed(OUTSIDE), 100.0 + holds) == "api.example.com"
    assert told.name(packed(WEB), packed(OUTSIDE), 100.0 + holds + 1) == ""
    assert told.name(packed(WEB), packed(OUTSIDE), 100.0 - SOON) == "api.example.com"
    assert told.name(packed(WEB), packed(OUTSIDE), 100.0 - SOON - 1) == "", "it began before anybody said so"


def test_the_newest_name_counts_and_the_same_one_goes_on() -> None:
    told = Told()
    told.hear([answer()], 100.0)
    told.hear([answer()], 200.0)
    assert told.name(packed(WEB), packed(OUTSIDE), 101.0) == "api.example.com"
    told.hear([answer(name="cdn.example.net")], 300.0)
    assert told.name(packed(WEB), packed(OUTSIDE), 300.0) == "cdn.example.net"
    assert told.name(packed(WEB), packed(OUTSIDE), 101.0) == "", "which of two it was is not guessed"


def test_what_is_remembered_is_bounded() -> None:
    told = Told()
    for number in range(EACH + 50):
        told.hear([answer(address=str(ipaddress.ip_address("198.51.0.0") + number))], 100.0)
    assert len(told._ends[packed(WEB)]) == EACH
    for number in range(ENDS + 50):
        told.hear([answer(str(ipaddress.ip_address("10.1.0.0") + number))], 100.0)
    assert len(told._ends) == ENDS
    many = Answer(packed(WEB), packed(RESOLVER), "a.example", tuple(bytes([1, 2, 3, at]) for at in range(200)), 1)
    told.hear([many], 100.0)
    assert len(told._ends[packed(WEB)]) == module.EACH_ANSWER


def test_a_flow_to_an_address_outside_has_the_name_by_which_its_source_was_led_there() -> None:
    words = prefix(Direction.EGRESS, Said.ALLOWED, RuleId("a/b")).encode()
    known = Names({}, {Address(WEB): WorkloadId("web"), Address("10.0.0.2"): WorkloadId("db")}, {})
    told, made = Told(), Recording()
    told.hear([answer(), answer(address="10.0.0.2", name="db.example")], 100.0)
    for source, to in ((WEB, OUTSIDE), ("10.0.0.3", OUTSIDE), (WEB, "10.0.0.2"), (WEB, "198.51.100.8")):
        made.decided([Decision(words, socket.IPPROTO_TCP, packed(source), packed(to), 443, b"abcdef", 60)], 101.0)
    named = {(each.key.source, each.key.destination): each.key.name for each in flows(made.take(known, told))}
    assert named == {
        (WEB, OUTSIDE): "api.example.com",
        ("10.0.0.3", OUTSIDE): "",
        (WEB, "10.0.0.2"): "",
        (WEB, "198.51.100.8"): "",
    }
