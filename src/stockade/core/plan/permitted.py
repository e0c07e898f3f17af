"""What two parties may say to each other: both ends judged, service by service, with the line that decided."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec

from stockade.core.compile.decide import decide, enforces
from stockade.core.compile.rulebook import Rulebook
from stockade.core.model.ids import RuleId
from stockade.core.model.intent import Line, Program, Tier
from stockade.core.model.net import LAST_PORT, Ports, Protocol
from stockade.core.plan.parties import Party, speaks
from stockade.core.plan.portset import SPACES, PortSet, joined


class Said(msgspec.Struct, frozen=True):
    """What one end says of a run of ports: by a line, or (None) by its mode or for want of a judge."""

    allowed: bool
    line: Line | None = None


class Run(msgspec.Struct, frozen=True):
    """A run of ports on which both ends say the same throughout."""

    ports: Ports
    leaves: Said
    enters: Said

    @property
    def allowed(self) -> bool:
        """Whether both ends say yes."""
        return self.leaves.allowed and self.enters.allowed

    @property
    def rule(self) -> RuleId | None:
        """The rule that opened it, the destination's before the source's; None where modes did."""
        for said in (self.enters, self.leaves):
            if said.line is not None and said.allowed:
                return said.line.rule
        return None


def runs(book: Rulebook, source: Party, destination: Party) -> tuple[Run, ...]:
    """Judge every service between two parties."""
    leaving = _speaking(book, source.program, source.program.egress if source.program else (), destination)
    entering = _speaking(book, destination.program, destination.program.ingress if destination.program else (), source)
    found: list[Run] = []
    for protocol in SPACES:
        found += [
            Run(ports, _say(source.program, leaving, ports), _say(destination.program, entering, ports))
            for ports in _cut(protocol, (*leaving, *entering))
        ]
    return tuple(found)


def permitted(found: Iterable[Run]) -> PortSet:
    """Return the services on which both ends say yes."""
    return joined(run.ports for run in found if run.allowed)


def _speaking(book: Rulebook, program: Program | None, lines: Iterable[Line], other: Party) -> tuple[Line, ...]:
    """Keep the lines that count and speak of the other party."""
    if program is None:
        return ()
    counting = (line for line in lines if line.tier <= Tier.CUT_REST or enforces(program))
    return tuple(line for line in counting if speaks(book, line, other))


def _cut(protocol: Protocol, lines: tuple[Line, ...]) -> Iterator[Ports]:
    named = [each for line in lines for each in line.ports if each.protocol is protocol]
    edges = sorted({0, LAST_PORT + 1, *(each.first for each in named), *(each.last + 1 for each in named)})
    for first, after in pairwise(edges):
        yield Ports(protocol, first, after - 1)


def _say(program: Program | None, lines: tuple[Line, ...], ports: Ports) -> Said:
    if program is None:
        return Said(allowed=True)
    line = next((line for line in lines if covers(line, ports)), None)
    return Said(decide(program, (line,) if line else (), lambda _: True), line)


def covers(line: Line, ports: Ports) -> bool:
    """Tell whether a line speaks of a run of ports (which never straddles the edge of a line's own)."""
    return not line.ports or any(
        each.protocol is ports.protocol and each.first <= ports.first and ports.last <= each.last for each in line.ports
    )
