"""Who has just been admitted, and its neighbours, hear of each other. Pure.

What nobody knows yet is held, its questions for its neighbours' link addresses too; and a kernel asks again only after
a second, keeping meanwhile what it would send. So an endpoint is told of its neighbours as soon as it is admitted, in
the words in which they would have answered. It heeds the answers to what it has asked for, and no others (RFC 826;
RFC 4861, 7.2.5).

By its questions its neighbours, and the host, would have learnt where it is; and who knows its address as another's,
which had it before, answers there for some eight seconds before asking anew. So they are told, before it is.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

from msgspec.structs import replace

from stockade.core.compile.decide import closed
from stockade.core.model.ids import Address
from stockade.core.model.intent import Intent, LocalEnd
from stockade.core.model.inventory import Attachment
from stockade.core.model.policy import Births
from stockade.seams.neighbours import Introduction

LIKELY = 32
"""Neighbours of which an endpoint is told before anything else is done: each takes some 20 to 40 microseconds."""


def introductions(before: Intent | None, after: Intent) -> tuple[Introduction, ...]:
    """Return an introduction for each bridged endpoint that ``after`` admits and ``before`` did not know.

    Neighbours come in the order in which they are likely to be asked for: the host, whom policy names, the others.

    None where ``before`` kept nobody's questions. None where nothing was in force: who was there has
    asked long since.
    """
    if before is None or not _keeps_questions(before):
        return ()
    there = {_place(end) for end in _bridged(before)}
    return tuple(_introduction(end, after) for end in _bridged(after) if _place(end) not in there)


def in_turn(admitted: Iterable[Introduction]) -> tuple[list[Introduction], list[Introduction]]:
    """Return what each endpoint hears at once, and what it may hear while others have their turn."""
    some = list(admitted)
    first = [replace(each, neighbours=each.neighbours[:LIKELY]) for each in some]
    later = [replace(each, neighbours=rest, new=False) for each in some if (rest := each.neighbours[LIKELY:])]
    return first, later


def _keeps_questions(intent: Intent) -> bool:
    """Tell whether strangers are held, or not heard by those who refuse strangers."""
    return intent.births is Births.HOLD or any(map(closed, intent.programs))


def _bridged(intent: Intent) -> Iterator[LocalEnd]:
    """Yield the known endpoints on bridges that can be told something."""
    for end in intent.ends:
        if end.attachment is Attachment.BRIDGED and end.program and end.port and end.mac:
            yield end


def _place(end: LocalEnd) -> tuple[str, str, tuple[Address, ...]]:
    return end.port, end.mac, end.addresses


def _introduction(end: LocalEnd, intent: Intent) -> Introduction:
    beside = [
        (address, other.mac)
        for other in _bridged(intent)
        if other.bridge == end.bridge and other.port != end.port
        for address in other.addresses
    ]
    met = _met(end, intent, {address for address, _ in beside})
    beside.sort(key=lambda neighbour: neighbour[0] not in met)
    return Introduction(end.port, end.mac, end.addresses, end.bridge, (*_gateways(end.bridge, intent), *beside))


def _met(end: LocalEnd, intent: Intent, beside: set[Address]) -> set[Address]:
    """Return which of its neighbours policy names to an endpoint: there may be far more whom it names elsewhere."""
    programs = (each for each in intent.programs if each.id == end.program)
    named = {line.peers.name for program in programs for line in (*program.egress, *program.ingress)}
    return {each for peers in intent.peers if peers.name in named for each in beside.intersection(peers.addresses)}


def _gateways(bridge: str, intent: Intent) -> Iterator[tuple[Address, str]]:
    """Yield the host's own addresses on a bridge."""
    subnets = [ip_network(subnet) for each in intent.bridges if each.name == bridge for subnet in each.subnets]
    for end in intent.ends:
        if end.attachment is Attachment.HOST:
            yield from ((each, "") for each in end.addresses if any(ip_address(each) in subnet for subnet in subnets))
