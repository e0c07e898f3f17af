"""Sets of services: for each protocol, disjoint inclusive ranges. ``ANY`` stands for protocols without a name here."""

from collections.abc import Iterable, Iterator

import msgspec

from stockade.core.model.net import ANYTHING, LAST_PORT, PORTED, Ports, Protocol

SPACES = tuple(Protocol)
ICMP_NAMES = {
    (Protocol.ICMP, 8): "echo-request",
    (Protocol.ICMPV6, 128): "echo-request",
}
MANY = 6
"""More ranges than this are told by what is missing, where that is shorter."""


class PortSet(msgspec.Struct, frozen=True):
    """Sorted, disjoint ranges, adjacent ones joined."""

    ranges: tuple[Ports, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __or__(self, other: "PortSet") -> "PortSet":
        return portset((*self.ranges, *other.ranges))

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
            return f"any but {', '.join(map(ports_text, missing.ranges))}"
        return ", ".join(map(ports_text, self.ranges))


def portset(ranges: Iterable[Ports]) -> PortSet:
    """Return the set of some ranges, in any order, overlapping or not; a range of ``ANY`` is everything."""
    joined: list[Ports] = []
    for each in sorted(_spelt_out(ranges)):
        last = joined[-1] if joined else None
        if last is not None and last.protocol is each.protocol and each.first <= last.last + 1:
            joined[-1] = Ports(each.protocol, last.first, max(last.last, each.last))
        else:
            joined.append(each)
    return PortSet(tuple(joined))


def ports_text(ports: Ports) -> str:
    """Return one range as a user writes it."""
    whole = ports.first == 0 and ports.last == LAST_PORT
    name = "other" if ports.protocol is Protocol.ANY else ports.protocol.name.lower()
    if whole:
        return name
    if ports.protocol in PORTED:
        return f"{name}/{ports.first}" if ports.first == ports.last else f"{name}/{ports.first}-{ports.last}"
    first, last = ports.first // 256, ports.last // 256
    kind = ICMP_NAMES.get((ports.protocol, first), str(first))
    return f"{name}/{kind}" if first == last else f"{name}/{first}-{last}"


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
