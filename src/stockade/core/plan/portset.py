"""Sets of services: for each protocol, disjoint inclusive ranges. ``ANY`` stands for protocols without a name here."""

from collections.abc import Iterable, Iterator

import msgspec

from stockade.core.model.net import ANYTHING, LAST_PORT, PORTED, Ports, Protocol
from stockade.core.model.policy import PolicySet, ServiceRef
from stockade.core.policy import ports_text

SPACES = tuple(Protocol)


class PortSet(msgspec.Struct, frozen=True):
    """Sorted, disjoint ranges, adjacent ones joined."""

    ranges: tuple[Ports, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __or__(self, other: "PortSet") -> "PortSet":
        return joined((*self.ranges, *other.ranges))

    def __and__(self, other: "PortSet") -> "PortSet":
        return self - (self - other)

    def __sub__(self, other: "PortSet") -> "PortSet":
        remaining = list(self.ranges)
        for hole in other.ranges:
            remaining = [part for each in remaining for part in _less(each, hole)]
        return PortSet(tuple(sorted(remaining)))

    def text(self) -> str:
        """Return it as a user writes ports; what is nearly everything as ``any but …``."""
        if self == EVERYTHING:
            return "any"
        missing = EVERYTHING - self
        if len(missing.ranges) < len(self.ranges) and len(self.ranges) >= len(SPACES) - 1:
            return f"any but {', '.join(map(range_text, missing.ranges))}"
        return ", ".join(map(range_text, self.ranges))


def portset(ranges: Iterable[Ports]) -> PortSet:
    """Return what policy means by some ranges, in any order, overlapping or not; a range of ``ANY`` is everything."""
    return joined(_spelt_out(ranges))


def joined(parts: Iterable[Ports]) -> PortSet:
    """Return the set of ranges that were parts of sets: a range of ``ANY`` is protocols without a name, no more."""
    found: list[Ports] = []
    for each in sorted(parts):
        last = found[-1] if found else None
        if last is not None and last.protocol is each.protocol and each.first <= last.last + 1:
            found[-1] = Ports(each.protocol, last.first, max(last.last, each.last))
        else:
            found.append(each)
    return PortSet(tuple(found))


class Speaking:
    """Asks many rules whether their ``on`` means any of some ports."""

    def __init__(self, policy: PolicySet, ports: PortSet) -> None:
        self._ranges = ports.ranges
        self._services = {each.name for each in policy.services if any(map(self._overlaps, each.ports))}

    def of(self, on: tuple[ServiceRef, ...]) -> bool:
        """Tell whether what a rule lists means any of the ports; nothing listed is everything."""
        return not on or any(self._overlaps(each) if isinstance(each, Ports) else each in self._services for each in on)

    def _overlaps(self, ports: Ports) -> bool:
        return ports == ANYTHING or any(
            ports.protocol is each.protocol and ports.first <= each.last and each.first <= ports.last
            for each in self._ranges
        )


def written_out(policy: PolicySet, on: tuple[ServiceRef, ...]) -> PortSet:
    """Return what a rule's ``on`` means; nothing written is everything."""
    if not on:
        return EVERYTHING
    known = {service.name: service.ports for service in policy.services}
    return portset(ports for each in on for ports in ((each,) if isinstance(each, Ports) else known.get(each, ())))


def range_text(ports: Ports) -> str:
    """Return one range as a user writes it, and where policy has no word for it as near as can be.

    Port 0 counts as written where its neighbours are: no policy names it and nothing listens there.
    """
    if ports.protocol is Protocol.ANY:
        return "other"
    if ports.protocol in PORTED:
        first = 1 if ports.first == 0 < ports.last < LAST_PORT else ports.first
        return ports_text(Ports(ports.protocol, first, ports.last))
    return ", ".join(_icmp_texts(ports))


def _icmp_texts(ports: Ports) -> Iterator[str]:
    """Whole types together; the codes of a type that is not whole by themselves."""
    word = ports.protocol.name.lower()
    (first, low), (last, high) = divmod(ports.first, 256), divmod(ports.last, 256)
    if first == last and (low, high) != (0, 255):
        yield f"{word}/{first}/{low}" + (f"-{high}" if high != low else "")
        return
    if low:
        yield from _icmp_texts(Ports(ports.protocol, ports.first, first * 256 + 255))
        first += 1
    whole = last - (high != 255)
    if whole > first and (first, whole) != (0, 255):
        yield f"{word}/{first}-{whole}"
    elif whole >= first:
        yield ports_text(Ports(ports.protocol, first * 256, whole * 256 + 255))
    if high != 255:
        yield from _icmp_texts(Ports(ports.protocol, last * 256, ports.last))


def _spelt_out(ranges: Iterable[Ports]) -> Iterator[Ports]:
    for each in ranges:
        if each == ANYTHING:
            yield from (Ports(protocol) for protocol in SPACES)
        else:
            yield each


def _less(each: Ports, hole: Ports) -> Iterator[Ports]:
    if each.protocol is not hole.protocol or hole.last < each.first or hole.first > each.last:
        yield each
        return
    if each.first < hole.first:
        yield Ports(each.protocol, each.first, hole.first - 1)
    if hole.last < each.last:
        yield Ports(each.protocol, hole.last + 1, each.last)


EVERYTHING = PortSet(tuple(sorted(Ports(protocol) for protocol in SPACES)))
NOTHING = PortSet()
