"""What an intent says of a connection, asked in user space: for connections that no packet asks about.

The kernel judges every packet by itself; this judges entries of the connection table after a change, and those older
than tracking. Same lines, same order, same sets as the rendered program.
"""

from stockade.core.compile.decide import decide
from stockade.core.compile.ranges import Ranges
from stockade.core.model.ids import Address
from stockade.core.model.intent import Intent, Line, LocalEnd, Program, PublishedPort
from stockade.core.model.inventory import Attachment
from stockade.core.model.net import PORTED, Protocol
from stockade.core.model.policy import Mode

LOOPBACK = ("127.", "::1")


class Judge:
    """One intent, indexed once; each question costs a few look-ups."""

    def __init__(self, intent: Intent) -> None:
        self._programs = {program.id: program for program in intent.programs}
        self._ends: dict[Address, LocalEnd] = {
            address: end for end in intent.ends if end.program for address in end.addresses
        }
        self._host = {a for end in intent.ends if end.attachment is Attachment.HOST for a in end.addresses}
        self._peers = {each.name: frozenset(each.addresses) for each in intent.peers}
        self._networks = {each.name: Ranges(each.prefixes) for each in intent.networks}
        self._inventory = frozenset(intent.inventory)
        self._inside = Ranges(intent.inside)
        self._failsafe = {(each.source, each.port) for each in intent.failsafe}
        self._published = {(p.protocol, a, p.port): p for p in intent.published for a in p.addresses}

    def judged(self, source: Address, destination: Address) -> bool:
        """Tell whether either end is judged here at all."""
        return source in self._ends or destination in self._ends

    def allowed(self, source: Address, destination: Address, protocol: int, port: int) -> bool:
        """Tell whether every local end lets a connection pass. ``port`` is ICMP's ``type * 256 + code`` for ICMP."""
        if self._essential(source, destination, protocol, port):
            return True
        published = self._published.get((Protocol(protocol), destination, port)) if protocol in PORTED else None
        if published is not None:
            return self._through(published, source)
        return self._says(source, destination, protocol, port, leaving=True) and self._says(
            destination, source, protocol, port, leaving=False
        )

    def _essential(self, source: Address, destination: Address, protocol: int, port: int) -> bool:
        if self._own(source) and self._own(destination):
            return True
        here, there = self._ends.get(source), self._ends.get(destination)
        if here is not None and there is not None and here.workload == there.workload:
            return True
        return protocol == Protocol.TCP and self._own(destination) and (source, port) in self._failsafe

    def _own(self, address: Address) -> bool:
        return address in self._host or address.startswith(LOOPBACK)

    def _through(self, published: PublishedPort, source: Address) -> bool:
        """A published port: the sender's end was asked when the intent was made, the workload's is asked now."""
        if source in self._ends and source not in published.senders:
            target = self._ends.get(published.to_address)
            return target is not None and target.workload == self._ends[source].workload
        return self._says(published.to_address, source, published.protocol, published.to_port, leaving=False)

    def _says(self, own: Address, other: Address, protocol: int, port: int, *, leaving: bool) -> bool:
        program = self._program(own)
        if program is None:
            return True
        lines = program.egress if leaving else program.ingress
        return decide(program, lines, lambda line: self._speaks(line, other, protocol, port))

    def _program(self, address: Address) -> Program | None:
        end = self._ends.get(address)
        program = self._programs[end.program] if end is not None and end.program is not None else None
        quiet = program is not None and program.mode is Mode.IDLE and not (program.egress or program.ingress)
        return None if quiet else program

    def _speaks(self, line: Line, other: Address, protocol: int, port: int) -> bool:
        if line.ports and not any(p.protocol == protocol and p.first <= port <= p.last for p in line.ports):
            return False
        if not line.peers.name:
            return True
        if not line.peers.networks:
            return other in self._peers[line.peers.name]
        if other in self._inventory or other in self._inside:
            return False
        return other in self._networks[line.peers.name]
