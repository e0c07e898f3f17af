"""Aggregation: what the kernel tells, packet by packet, becomes flows. Pure, and quick: every logged packet comes by.

A connection whose first packet is repeated is one connection: it is known by its nonce (source port, and for TCP the
sequence number) for as long as its sender may repeat itself.
"""

import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from stockade.agent.flows.names import Names
from stockade.agent.flows.told import Told
from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.recording import Prefix, Said, read
from stockade.core.model.flow import TOGETHER, Tally, Verdict, Via
from stockade.core.model.flow_table import FlowKind, FlowTable, FlowWriter, Row, ToldEnd, numbers
from stockade.core.model.ids import Address, RuleId
from stockade.core.model.packet import Direction
from stockade.seams.flows import Decision, Ended, LocalSocket

MOST = 4000
"""Keys of one batch: more are a batch of their own, so that no step takes long."""
REPEATED_FOR = {6: 130.0}
"""Seconds for which the same nonce is the same connection, by protocol. A SYN is repeated after a minute at most."""
REPEATED_OTHERWISE = 30.0
"""As long as connection tracking waits for an answer to a datagram."""
REMEMBERED = 1 << 17
"""Nonces remembered; beyond it the older half is forgotten, and a repetition may count twice."""
VERDICTS = {Said.ALLOWED: Verdict.ALLOWED, Said.DENIED: Verdict.DENIED, Said.WOULD_DENY: Verdict.WOULD_DENY}

LOOKED_AT = 4
"""Connections of one key and batch whose programs are asked for."""
PORTED = frozenset((socket.IPPROTO_TCP, socket.IPPROTO_UDP))

_Raw = tuple[bytes, int, bytes, bytes, int]
Mark = tuple[_Raw, bytes]
"""A connection: what it is judged as, and its nonce."""
_Carried = tuple[int, bytes, bytes, int, bytes, int]
_Known = tuple[bytes, int, int, bool, str, str]
_Asked = tuple[bytes, int, bytes, int, str]
"""What is asked for, whoever asks: the kernel's prefix, protocol, destination, port, program at the judging end."""
CARRIED = (b"out", b"in")
"""What stands for the kernel's prefix where a connection was carried, and whether it ended here."""


class Recording:
    """Flows since the last ``take``. For one thread."""

    def __init__(self) -> None:
        self._judged: dict[_Raw, list[float]] = {}
        """first, last, connections, packets, bytes"""
        self._carried: dict[_Carried, list[float]] = {}
        """first, last, packets, bytes out, bytes in, ended, seconds"""
        self._seen: dict[Mark, float] = {}
        self._fresh: list[Mark] = []
        self._programs: dict[_Raw, set[str]] = {}

    def __len__(self) -> int:
        """How many keys a batch would have."""
        return len(self._judged) + len(self._carried)

    def decided(self, decisions: Iterable[Decision], now: float) -> None:
        """Add packets that were decided about just before ``now`` (seconds since the epoch)."""
        judged, seen = self._judged, self._seen
        for prefix, protocol, source, destination, port, nonce, length in decisions:
            key = (prefix, protocol, source, destination, port)
            row = judged.get(key)
            if row is None:
                row = judged[key] = [now, now, 0, 0, 0]
            row[1] = now
            row[3] += 1
            row[4] += length
            mark = (key, nonce)
            before = seen.get(mark)
            if before is None or now - before > REPEATED_FOR.get(protocol, REPEATED_OTHERWISE):
                row[2] += 1
                if row[2] <= LOOKED_AT:
                    self._fresh.append(mark)
            seen[mark] = now
        if len(seen) > REMEMBERED:
            self._forget(now)

    def fresh(self) -> list[Mark]:
        """Return connections that are new since this was last asked, some of each key: whose programs may be met."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def met(self, one: Mark, program: str) -> None:
        """A program was met at the judging end of a connection."""
        self._programs.setdefault(one[0], set()).add(program)

    def ended(self, connections: Iterable[Ended], now: float) -> None:
        """Add connections that ended just before ``now``.

        Those that no hook of ours let pass are nobody's; a proxy's second leg carries what its first did.
        """
        for each in connections:
            if not each.mark & MARKS.admitted or each.mark & MARKS.proxied:
                continue
            key = (each.protocol, each.source, each.destination, each.port, each.opened_to, each.opened_port)
            row = self._carried.setdefault(key, [now - each.seconds, now, 0, 0, 0, 0, 0.0])
            row[0] = min(row[0], now - each.seconds)
            row[1] = now
            row[2] += each.packets
            row[3] += each.bytes_out
            row[4] += each.bytes_in
            row[5] += 1
            row[6] += each.seconds

    def take(self, names: Names, told: Told | None = None) -> FlowTable[ToldEnd]:
        """Return everything since the last time, in a fixed order, and begin anew. Nonces are remembered.

        ``told``: by which names ends were led to addresses outside.
        """
        judged, self._judged = self._judged, {}
        carried, self._carried = self._carried, {}
        programs, self._programs = self._programs, {}
        self._fresh.clear()
        taking = _Taking(names, told or Told())
        for raw, (first, last, connections, packets, octets) in sorted(judged.items()):
            program = TOGETHER.join(sorted(programs[raw])) if raw in programs else ""
            taking.judged(raw, program, (first, last, connections, packets, octets, 0, 0, 0.0))
        for each, (first, last, packets, out, back, over, seconds) in sorted(carried.items()):
            taking.carried(each, (first, last, 0, packets, out, back, over, seconds))
        return taking.table()

    def _forget(self, now: float) -> None:
        """Forget nonces that cannot be repeated any more; should too many be left, the older half of them."""
        alive = {
            mark: at for mark, at in self._seen.items() if now - at <= REPEATED_FOR.get(mark[0][1], REPEATED_OTHERWISE)
        }
        if len(alive) > REMEMBERED // 2:
            newest = sorted(alive.values())[-(REMEMBERED // 2)]
            alive = {mark: at for mark, at in alive.items() if at > newest}
        self._seen = alive


class _Reached(NamedTuple):
    """What is judged, whoever asked for it: the kind of flow, where it leads, whether outside and by a proxy."""

    kind: int
    to: Address
    outside: bool
    behind: bool


class _Taking:
    """Flows of one batch. What the kernel names an end or a kind by is looked up once for each."""

    def __init__(self, names: Names, told: Told) -> None:
        self._names = names
        self._told = told
        self._writer = FlowWriter[ToldEnd]()
        self._ends: dict[bytes | tuple[Address, str], int] = {}
        self._kinds: dict[_Known, int] = {}
        self._reached: dict[_Asked, _Reached | None] = {}
        self._proxied: dict[tuple[int, int, int], Tally] = {}
        """Told of under several of the host's addresses, and the same behind the proxy."""

    def judged(self, raw: _Raw, program: str, told: Row) -> None:
        """Add what was judged, unless the kernel's words are none of ours."""
        prefix, protocol, source, destination, port = raw
        asked = (prefix, protocol, destination, port, program)
        if asked in self._reached:
            reached = self._reached[asked]
        else:
            reached = self._reached[asked] = self._reach(*asked)
        if reached is None:
            return
        kind, to, outside, behind = reached
        name = self._told.name(source, destination, told[0]) if outside else ""
        self._add(source, self._end(to, name), kind, told, behind)

    def _reach(self, prefix: bytes, protocol: int, destination: bytes, port: int, program: str) -> _Reached | None:
        if (said := _said(prefix)) is None:
            return None
        to, at, behind = self._behind(protocol, destination, port)
        opened = service(address(destination), port) if behind else ""
        known = (prefix, protocol, at, behind, opened, program)
        if (kind := self._kinds.get(known)) is None:
            rule = self._names.rules.get(said.of, RuleId(said.of))
            via = Via.PROXY if behind else Via.DIRECT
            made = FlowKind(protocol, at, said.way, VERDICTS[said.said], rule, via, opened, program)
            kind = self._kinds[known] = self._writer.kind(made)
        return _Reached(kind, to, to not in self._names.workloads, behind)

    def carried(self, ended: _Carried, told: Row) -> None:
        """Add what ended connections carried, unless they never left the host."""
        protocol, source, destination, port, opened_to, opened_port = ended
        if is_loopback(source):
            return
        to, at, behind = self._behind(protocol, destination, port)
        translated = (opened_to, opened_port) != (destination, port)
        opened = service(address(opened_to), opened_port) if behind or translated else ""
        here = to in self._names.workloads
        known = (CARRIED[here], protocol, at, behind, opened, "")
        if (kind := self._kinds.get(known)) is None:
            end = Direction.INGRESS if here else Direction.EGRESS
            via = Via.PROXY if behind else Via.TRANSLATED if translated else Via.DIRECT
            made = FlowKind(protocol, at, end, Verdict.CARRIED, via=via, service=opened)
            kind = self._kinds[known] = self._writer.kind(made)
        name = "" if here else self._told.name(source, opened_to, told[0])
        self._add(source, self._end(to, name), kind, told, behind)

    def table(self) -> FlowTable[ToldEnd]:
        """Return all of it."""
        for place, tally in self._proxied.items():
            self._writer.add((*place, *numbers(tally)))
        return self._writer.table()

    def _behind(self, protocol: int, destination: bytes, port: int) -> tuple[Address, int, bool]:
        """Return where a connection really leads, and whether a local proxy carries it there."""
        at = address(destination)
        if not self._names.proxied or (real := self._names.proxied.get((protocol, at, port))) is None:
            return at, port, False
        return real.address, real.port, True

    def _end(self, at: Address, name: str) -> int:
        known = (at, name)
        if (found := self._ends.get(known)) is None:
            found = self._ends[known] = self._writer.end(ToldEnd(at, self._names.workloads.get(at), name))
        return found

    def _source(self, packed: bytes) -> int:
        if (found := self._ends.get(packed)) is None:
            at = address(packed)
            found = self._ends[packed] = self._writer.end(ToldEnd(at, self._names.workloads.get(at)))
        return found

    def _add(self, source: bytes, destination: int, kind: int, told: Row, proxied: bool) -> None:
        place = (self._source(source), destination, kind)
        if not proxied:
            self._writer.add(place + told)
            return
        first, last, connections, packets, out, back, ended, seconds = told
        tally = Tally(first, last, int(connections), int(packets), int(out), int(back), int(ended), seconds)
        self._proxied[place] = self._proxied[place] + tally if place in self._proxied else tally


def local_socket(one: Mark, names: Names) -> LocalSocket | None:
    """Return the socket at the judging end of a connection; None where it has none, or that end is not known here."""
    (prefix, protocol, source, destination, port), nonce = one
    if protocol not in PORTED or len(nonce) < 2 or (said := _said(prefix)) is None:
        return None
    number = int.from_bytes(nonce[:2], "big")
    if said.way is Direction.EGRESS:
        place = names.places.get(address(source))
        return None if place is None else LocalSocket(place, protocol, source, number, destination, port, serves=False)
    if real := names.proxied.get((protocol, address(destination), port)):
        destination, port = packed(real.address), real.port
    place = names.places.get(address(destination))
    return None if place is None else LocalSocket(place, protocol, destination, port, source, number, serves=True)


@lru_cache(maxsize=1 << 12)
def _said(prefix: bytes) -> Prefix | None:
    try:
        return read(prefix.decode("ascii"))
    except ValueError:
        return None


def service(at: Address, port: int) -> str:
    """Return ``address:port``, an IPv6 address in brackets."""
    return f"[{at}]:{port}" if ":" in at else f"{at}:{port}"


@lru_cache(maxsize=1 << 14)
def address(packed: bytes) -> Address:
    """Return an address in canonical text."""
    return Address(socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed))


@lru_cache(maxsize=1 << 10)
def packed(text: Address) -> bytes:
    """Return an address as the kernel has it."""
    return ipaddress.ip_address(text).packed


@lru_cache(maxsize=1 << 10)
def is_loopback(packed: bytes) -> bool:
    """Tell whether an address never leaves its host."""
    return ipaddress.ip_address(packed).is_loopback
