"""What two parties may say to each other: both ends judged, service by service, with the line that decided."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec

from stockade.core.compile.decide import PASSING, enforces
from stockade.core.compile.rulebook import Rulebook
from stockade.core.model.ids import RuleId
from stockade.core.model.intent import Line, Program, Tier
from stockade.core.model.net import LAST_PORT, Ports, Protocol
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Mode
from stockade.core.plan.parties import Party, includes
from stockade.core.plan.portset import SPACES, PortSet, joined

Silence = bool | None
"""What an end says of what no line of it names; None: nobody judges it."""


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
    leaving = (line for line in counting(source.program, Direction.EGRESS) if includes(book, line.peers, destination))
    entering = (line for line in counting(destination.program, Direction.INGRESS) if includes(book, line.peers, source))
    return talk(silence(source.program), tuple(leaving), silence(destination.program), tuple(entering))


def talk(one: Silence, leaving: tuple[Line, ...], other: Silence, entering: tuple[Line, ...]) -> tuple[Run, ...]:
    """Judge every service between two ends, by what each says where no line does, and the lines that count."""
    return tuple(
        Run(ports, _say(one, leaving, ports), _say(other, entering, ports))
        for protocol in SPACES
        for ports in _cut(protocol, (*leaving, *entering))
    )


def silence(program: Program | None) -> Silence:
    """Return whether an end says yes to whatever no line of it names; None where nobody judges it, who says yes."""
    return None if program is None else program.mode is not Mode.FULL


def counting(program: Program | None, way: Direction) -> Iterator[Line]:
    """Yield the lines that count at an end, in the order in which they are tried."""
    if program is not None:
        lines = program.egress if way is Direction.EGRESS else program.ingress
        enforced = enforces(program)
        yield from (line for line in lines if enforced or line.tier <= Tier.CUT_REST)


def permitted(found: Iterable[Run]) -> PortSet:
    """Return the services on which both ends say yes."""
    return joined(run.ports for run in found if run.allowed)


def _cut(protocol: Protocol, lines: tuple[Line, ...]) -> Iterator[Ports]:
    named = [each for line in lines for each in line.ports if each.protocol is protocol]
    edges = sorted({0, LAST_PORT + 1, *(each.first for each in named), *(each.last + 1 for each in named)})
    for first, after in pairwise(edges):
        yield Ports(protocol, first, after - 1)


def _say(silent: Silence, lines: tuple[Line, ...], ports: Ports) -> Said:
    line = next((line for line in lines if covers(line, ports)), None)
    return Said(silent is not False if line is None else line.tier in PASSING, line)


def covers(line: Line, ports: Ports) -> bool:
    """Tell whether a line speaks of a run of ports (which never straddles the edge of a line's own)."""
    return not line.ports or any(
        each.protocol is ports.protocol and each.first <= ports.first and ports.last <= each.last for each in line.ports
    )
