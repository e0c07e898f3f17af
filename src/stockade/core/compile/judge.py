"""What an intent says of a connection, asked in user space: for connections that no packet asks about.

The kernel judges every packet by itself; this judges entries of the connection table after a change, and those older
than tracking. Same lines, same order, same sets as the rendered program. Built to be asked of a whole table at once:
an intent is indexed once, and what a program says on a port is worked out once.
"""

from collections.abc import Iterator
from typing import NamedTuple

from stockade.core.compile.decide import PASSING, enforces
from stockade.core.compile.ranges import Ranges
from stockade.core.model.ids import Address, ProgramId
from stockade.core.model.intent import Intent, Line, LocalEnd, Peers, Program, PublishedPort, Tier
from stockade.core.model.inventory import Attachment
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Births, Mode

LOOPBACK = ("127.", "::1")
LOOPBACKS = ("127.0.0.1", "::1")
REMEMBERED = 1 << 16
"""Answers kept of each kind; beyond, all are forgotten and worked out again."""


class Judge:
    """One intent, indexed once; each question costs a few look-ups."""

    def __init__(self, intent: Intent) -> None:
        known = [end for end in intent.ends if end.program]
        own = [end for end in intent.ends if end.attachment is Attachment.HOST]
        self._ends: dict[Address, LocalEnd] = {address: end for end in known for address in end.addresses}
        self._host = {a for end in own for a in end.addresses}
        self._host_known = any(end.program for end in own)
        self._held = set(_held(intent))
        self._failsafe = {(each.source, int(each.protocol), each.port) for each in intent.failsafe}
        self._published = {(int(p.protocol), a, p.port): p for p in intent.published for a in p.addresses}
        self._programs = {program.id: program for program in intent.programs}
        self._peers = _Sets(intent)
        self._ladders: dict[_Asked, _Ladder] = {}

    def judged(self, source: Address, destination: Address) -> bool:
        """Tell whether either end is judged here at all."""
        ends, held = self._ends, self._held
        return source in ends or destination in ends or source in held or destination in held

    def allowed(
        self,
        source: Address,
        destination: Address,
        protocol: int,
        port: int,
        *,
        begun: bool = False,
        living: bool = False,
    ) -> bool:
        """Tell whether every local end lets a connection pass. ``port`` is ``type * 256 + code`` for ICMP.

        ``begun``: it is there already, so that a denial with ``established: keep`` does not speak of it. ``living``:
        it lives on against plain denials and the mode's default.
        """
        asked = (protocol, port, begun, living)
        published = self._published.get((protocol, destination, port))
        if published is not None:
            return self._through(published, source, begun=begun, living=living)
        here, there = self._ends.get(source), self._ends.get(destination)
        if self._essential(source, destination, here, there, protocol, port):
            return True
        if source in self._held or destination in self._held:
            return False
        if here is not None and not self._says(here.program, Direction.EGRESS, destination, asked):
            return False
        return there is None or self._says(there.program, Direction.INGRESS, source, asked)

    def _essential(
        self,
        source: Address,
        destination: Address,
        here: LocalEnd | None,
        there: LocalEnd | None,
        protocol: int,
        port: int,
    ) -> bool:
        if here is not None and there is not None and here.workload == there.workload:
            return True
        if not self._own(destination):
            return False
        return self._own(source) or (source, protocol, port) in self._failsafe

    def _own(self, address: Address) -> bool:
        return address in self._host or address.startswith(LOOPBACK)

    def _through(self, port: PublishedPort, source: Address, *, begun: bool, living: bool) -> bool:
        """A published port: the sender's end was asked when the intent was made, the workload's is asked now."""
        here = self._ends.get(source)
        if here is not None:
            target = self._ends.get(port.to_address)
            if target is not None and target.workload == here.workload:
                return True
            if source not in port.senders:
                return False
        elif self._host_known and self._own(source) and not any(each in LOOPBACKS for each in port.senders):
            return False
        if port.held:
            return False
        return self._says(port.program, Direction.INGRESS, source, (int(port.protocol), port.to_port, begun, living))

    def _says(self, program: ProgramId | None, way: Direction, other: Address, asked: "_Question") -> bool:
        """Ask one end: the first rung that holds ``other`` decides."""
        if program is None:
            return True
        key = (program, way, asked)
        ladder = self._ladders.get(key)
        if ladder is None:
            if len(self._ladders) >= REMEMBERED:
                self._ladders.clear()
            ladder = self._ladders[key] = self._ladder(self._programs[program], way, asked)
        for peers, verdict in ladder.rungs:
            if not peers.name or self._peers.holds(peers, other):
                return verdict
        return ladder.otherwise

    def _ladder(self, program: Program, way: Direction, asked: "_Question") -> "_Ladder":
        """Work out what a program says on one port, as far as it does not depend on the other end."""
        protocol, port, begun, living = asked
        binding = enforces(program)
        lines = program.egress if way is Direction.EGRESS else program.ingress
        rungs = []
        for line in lines:
            allow = line.tier in PASSING
            if line.tier > Tier.CUT_REST and not binding:
                break
            if line.tier is Tier.DENY and living:
                break
            if _covers(line, protocol, port) and not (line.keep and begun and not allow):
                rungs.append((line.peers, allow))
        return _Ladder(tuple(rungs), program.mode is not Mode.FULL or living)


_Question = tuple[int, int, bool, bool]
"""Protocol, port, begun, living."""
_Asked = tuple[ProgramId, Direction, _Question]


class _Ladder(NamedTuple):
    rungs: tuple[tuple[Peers, bool], ...]
    otherwise: bool


class _Sets:
    """The address sets and network sets that lines name."""

    def __init__(self, intent: Intent) -> None:
        self._peers = {each.name: frozenset(each.addresses) for each in intent.peers}
        self._networks = {each.name: Ranges(each.prefixes) for each in intent.networks}
        self._inventory = frozenset(intent.inventory)
        self._inside = Ranges(intent.inside)
        self._found: dict[tuple[str, Address], bool] = {}

    def holds(self, peers: Peers, address: Address) -> bool:
        if not peers.networks:
            return address in self._peers[peers.name]
        key = (peers.name, address)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            found = self._found[key] = self._in_network(peers.name, address)
        return found

    def _in_network(self, name: str, address: Address) -> bool:
        if address in self._inventory or address in self._inside:
            return False
        return address in self._networks[name]


def _held(intent: Intent) -> Iterator[Address]:
    """Yield the addresses of endpoints that nobody has labelled, where births are held. The host is never held."""
    if intent.births is Births.HOLD:
        for end in intent.ends:
            if end.program is None and end.attachment is not Attachment.HOST:
                yield from end.addresses


def _covers(line: Line, protocol: int, port: int) -> bool:
    return not line.ports or any(each.protocol == protocol and each.first <= port <= each.last for each in line.ports)
