"""Flows in columns: as a point sends them and as a store takes them in. Pure.

Many flows have few ends and are of few kinds: each of those is said once, and a flow is a row of numbers. So whoever
passes a table on (names its ends, keeps it, sends it) has work for each end, and none for each flow.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Generic, NewType, TypeVar

import msgspec

from stockade.core.model.flow import Flow, FlowEnd, FlowKey, FlowLoss, StoredFlow, Tally, Verdict, Via
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction

E = TypeVar("E")
PLACES: Final = ("source", "destination", "kind")
"""Columns of places in a table's ``ends`` and ``kinds``."""
TALLY: Final = ("first", "last", "connections", "packets", "bytes_out", "bytes_in", "ended", "seconds")
CODES: Final = {
    **dict.fromkeys(PLACES, "I"),
    **dict.fromkeys(TALLY, "Q"),
    **dict.fromkeys(("first", "last", "seconds"), "d"),
}
"""How each column's numbers are packed, as ``array`` and ``struct`` call it: 4 bytes, 8 bytes, an IEEE double."""
Row = tuple[float, ...]
"""A flow's numbers, in the order of ``CODES``."""


class ToldEnd(msgspec.Struct, frozen=True, gc=False):
    """One end by its point's word: ``workload`` where it is the point's own.

    ``name`` is by which a resolver led the source to this destination.
    """

    address: Address
    workload: WorkloadId | None = None
    name: str = ""


class KeptEnd(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One end as it was known when it was stored, and as the point itself told of it."""

    end: FlowEnd
    told_address: Address
    told_workload: WorkloadId | None


EndText = NewType("EndText", bytes)
"""A ``KeptEnd`` as msgpack. Whoever keeps it knows it again without reading it: the same end is the same text."""


class FlowKind(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a flow is beside its ends and its tally; each as in ``FlowKey``."""

    protocol: int
    port: int
    end: Direction
    verdict: Verdict
    rule: RuleId = RuleId("")
    via: Via = Via.DIRECT
    service: str = ""
    process: str = ""


class FlowRows(msgspec.Struct, frozen=True, gc=False):
    """A row of numbers for each flow, by columns, each packed as ``CODES`` says, little-endian, without gaps."""

    source: bytes = b""
    destination: bytes = b""
    kind: bytes = b""
    first: bytes = b""
    last: bytes = b""
    connections: bytes = b""
    packets: bytes = b""
    bytes_out: bytes = b""
    bytes_in: bytes = b""
    ended: bytes = b""
    seconds: bytes = b""

    def __len__(self) -> int:
        return len(self.first) // 8

    @property
    def even(self) -> bool:
        """Whether every column has as many whole numbers as the others."""
        return all(len(getattr(self, name)) == len(self) * array(code).itemsize for name, code in CODES.items())

    def column(self, name: str) -> "array[float]":
        """Return a column's numbers. ``ValueError`` where it ends within one."""
        found: array[float] = array(CODES[name])
        found.frombytes(getattr(self, name))
        return _little(found)

    def moved(self, seconds: float) -> "FlowRows":
        """Return the same with all moments so much later."""
        return msgspec.structs.replace(
            self,
            **{name: _packed(array("d", (at + seconds for at in self.column(name)))) for name in ("first", "last")},
        )


class FlowTable(msgspec.Struct, Generic[E], frozen=True, gc=False):
    """Flows between ``ends``: ``ToldEnd`` as their point tells of them, ``EndText`` as they are stored."""

    ends: tuple[E, ...] = ()
    kinds: tuple[FlowKind, ...] = ()
    rows: FlowRows = FlowRows()

    def __len__(self) -> int:
        return len(self.rows)


class FlowBatch(msgspec.Struct, frozen=True):
    """What one point saw for a while; (host, stream, number) names it for ever: stored twice, it counts once.

    ``stream`` changes when a point cannot know its last number; ``number`` grows by one within it. ``lost`` is what was
    lost since the batch before. All flows lie within ``since`` and ``until`` by the point's clock, which is ``at`` when
    it is sent, so that the receiver can tell how far that clock is from its own.
    """

    host: HostId
    stream: str
    number: int
    since: float
    until: float
    at: float
    flows: FlowTable[ToldEnd] = FlowTable()
    lost: tuple[FlowLoss, ...] = ()


class FlowWriter(Generic[E]):
    """Makes a table, flow by flow."""

    def __init__(self) -> None:
        self._ends: dict[E, int] = {}
        self._kinds: dict[FlowKind, int] = {}
        self._rows: list[Row] = []

    def end(self, end: E) -> int:
        """Return an end's place."""
        return self._ends.setdefault(end, len(self._ends))

    def kind(self, kind: FlowKind) -> int:
        """Return a kind's place."""
        return self._kinds.setdefault(kind, len(self._kinds))

    def add(self, row: Row) -> None:
        """Add a flow: its ends' and its kind's places, and its tally's numbers."""
        self._rows.append(row)

    def table(self) -> FlowTable[E]:
        """Return what was added. ``OverflowError``: a number is below 0, or needs more than 8 bytes."""
        columns = zip(*self._rows, strict=True) if self._rows else ((),) * len(CODES)
        packed = {name: _packed(array(CODES[name], column)) for name, column in zip(CODES, columns, strict=True)}
        return FlowTable(tuple(self._ends), tuple(self._kinds), FlowRows(**packed))


def numbers(tally: Tally) -> Row:
    """Return a tally's numbers, in the order of ``TALLY``."""
    return msgspec.structs.astuple(tally)


def told(flows: Iterable[Flow]) -> FlowTable[ToldEnd]:
    """Return a point's flows in columns, in their order."""
    writer = FlowWriter[ToldEnd]()
    for each in flows:
        key = each.key
        source = writer.end(ToldEnd(key.source, key.source_workload))
        destination = writer.end(ToldEnd(key.destination, key.destination_workload, key.name))
        writer.add((source, destination, writer.kind(_kind(key)), *numbers(each.tally)))
    return writer.table()


def flows(table: FlowTable[ToldEnd]) -> Iterator[Flow]:
    """Yield a point's flows one by one."""
    for source, destination, kind, tally in _each(table):
        yield Flow(_key(source.address, source.workload, destination.address, destination.workload, kind,
                        destination.name), tally)  # fmt: skip


def kept(flows: Iterable[StoredFlow]) -> FlowTable[EndText]:
    """Return stored flows in columns, in their order. Whose they are is the batch's to say."""
    writer = FlowWriter[KeptEnd]()
    for each in flows:
        key = each.key
        source = writer.end(KeptEnd(each.source, key.source, key.source_workload))
        destination = writer.end(KeptEnd(each.destination, key.destination, key.destination_workload))
        writer.add((source, destination, writer.kind(_kind(key)), *numbers(each.tally)))
    table = writer.table()
    return FlowTable(tuple(map(end_text, table.ends)), table.kinds, table.rows)


def end_text(end: KeptEnd) -> EndText:
    """Return an end's text."""
    return EndText(msgspec.msgpack.encode(end))


def stored_flows(host: HostId, table: FlowTable[EndText], ends: Sequence[KeptEnd]) -> Iterator[StoredFlow]:
    """Yield stored flows one by one; ``ends`` are what the texts of the table's are."""
    read = FlowTable(tuple(ends), table.kinds, table.rows)
    return (stored_flow(host, *each) for each in _each(read))


def stored_flow(host: HostId, source: KeptEnd, destination: KeptEnd, kind: FlowKind, tally: Tally) -> StoredFlow:
    """Return one stored flow."""
    key = _key(source.told_address, source.told_workload, destination.told_address, destination.told_workload,
               kind, destination.end.told)  # fmt: skip
    return StoredFlow(host, source.end, destination.end, key, tally)


def _each(table: FlowTable[E]) -> Iterator[tuple[E, E, FlowKind, Tally]]:
    ends, kinds = table.ends, table.kinds
    columns = [table.rows.column(name) for name in CODES]
    for source, destination, kind, *tally in zip(*columns, strict=True):
        yield ends[int(source)], ends[int(destination)], kinds[int(kind)], Tally(*tally)


def _kind(key: FlowKey) -> FlowKind:
    return FlowKind(key.protocol, key.port, key.end, key.verdict, key.rule, key.via, key.service, key.process)


def _key(source: Address, source_workload: WorkloadId | None, destination: Address,
         destination_workload: WorkloadId | None, kind: FlowKind, name: str) -> FlowKey:  # fmt: skip
    return FlowKey(
        source, destination, kind.protocol, kind.port, kind.end, kind.verdict, kind.rule, source_workload,
        destination_workload, kind.via, kind.service, kind.process, name,
    )  # fmt: skip


def _packed(column: "array[float]") -> bytes:
    return _little(array(column.typecode, column)).tobytes() if sys.byteorder == "big" else column.tobytes()


def _little(column: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        column.byteswap()
    return column
