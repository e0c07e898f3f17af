"""Flows → columns of numbers. What ends and connections are goes into tables of its own, once for each.

What cannot be kept is refused before anything is. Every flow costs a few steps of C and none of Python's own.
"""

import hashlib
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stockade.adapters.clickhouse.schema import COUNTS, KIND
from stockade.core.model.flow import FlowEnd, FlowKey, Tally, Verdict, Via
from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.seams.flow_store import FlowStoreFailed, StoredBatch

LATEST = 4_000_000_000
"""Seconds since the epoch up to which a moment is one: ClickHouse's clocks end in 2106."""
MICRO = 1_000_000
HOUR = 3600
KEPT_IDS = 100_000
ROOM = 1 << 62

Numbers: TypeAlias = npt.NDArray[Any]


class End(msgspec.Struct, frozen=True, array_like=True):
    """One end of a flow: as it was known when it was stored, and as the point itself told of it."""

    end: FlowEnd
    told_address: Address
    told_workload: WorkloadId | None


class Kind(msgspec.Struct, frozen=True, array_like=True):
    """What a flow is beside its ends and its time, in the order of ``schema.KIND``."""

    host: HostId
    protocol: int
    port: int
    end: Direction
    verdict: Verdict
    rule: str
    via: Via
    service: str
    process: str


class Columns(msgspec.Struct, frozen=True):
    """Flows as one table, what its ids stand for, and the hours that it lies in."""

    table: Any
    ends: dict[int, End]
    kinds: dict[int, Kind]
    hours: tuple[int, ...]


class Naming:
    """Gives ends and kinds their ids: the hash of what they are, keyed so that nobody can make two alike."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._ids: dict[End | Kind, int] = {}

    def id(self, what: End | Kind) -> int:
        """Return the id of an end or a kind; the same has the same one for ever."""
        known = self._ids.get(what)
        if known is None:
            if len(self._ids) >= KEPT_IDS:
                self._ids.clear()
            text = msgspec.msgpack.encode(what)
            known = int.from_bytes(hashlib.blake2b(text, digest_size=8, key=self._key).digest(), "little")
            self._ids[what] = known
        return known


def columns(batches: Sequence[StoredBatch], put: int, naming: Naming) -> Columns:
    """Return the batches' flows as a table for ``flows_in``, with a mark for each hour."""
    flows = [flow for batch in batches for flow in batch.flows]
    keys: list[FlowKey] = _each("key", flows)
    tallies: list[Tally] = _each("tally", flows)
    first, last = _moments(_each("first", tallies)), _moments(_each("last", tallies))
    hours = np.unique(first // (HOUR * MICRO) * HOUR)
    sizes = [len(batch.flows) for batch in batches]
    source, sources = _ends(naming, _each("source", flows), _each("source", keys), _each("source_workload", keys))
    destination, destinations = _ends(
        naming, _each("destination", flows), _each("destination", keys), _each("destination_workload", keys)
    )
    kind, kinds = _kinds(naming, keys, [batch.host for batch in batches], sizes)
    numbers = {
        "source": source,
        "destination": destination,
        "kind": kind,
        "put": np.zeros(len(flows), np.uint64),
        "number": np.repeat(_whole([batch.number for batch in batches], np.uint64), sizes),
        "seq": np.concatenate([np.arange(size, dtype=np.uint32) for size in sizes]),
        **{name: _whole(_each(name, tallies), np.uint64) for name in COUNTS[:-1]},
        "lived": _micro(_each("seconds", tallies)),
    }
    marks = {"put": np.full(len(hours), put, np.uint64)}
    table = pa.table(
        {
            **{name: pa.array(_marked(column, len(hours), marks.get(name))) for name, column in numbers.items()},
            "stream": _words(np.repeat(*_coded([batch.stream for batch in batches], sizes)), batches, len(hours)),
            "first": pa.array(np.concatenate([first, hours * MICRO]), pa.timestamp("us", "UTC")),
            "last": pa.array(np.concatenate([last, hours * MICRO]), pa.timestamp("us", "UTC")),
        }
    )
    return Columns(table, {**sources, **destinations}, kinds, tuple(hours.tolist()))


def _each(name: str, values: Sequence[Any]) -> list[Any]:
    return list(map(attrgetter(name), values))


def _marked(column: Numbers, marks: int, mark: Numbers | None) -> Numbers:
    return np.concatenate([column, np.zeros(marks, column.dtype) if mark is None else mark])


def _coded(values: Sequence[str], sizes: Sequence[int]) -> tuple[Numbers, Sequence[int]]:
    return _codes(values)[0], sizes


def _words(codes: Numbers, batches: Sequence[StoredBatch], marks: int) -> Any:
    """Return the batches' streams as a dictionary; marks have the first."""
    words = list(dict.fromkeys(batch.stream for batch in batches))
    return pa.DictionaryArray.from_arrays(pa.array(_marked(codes, marks, None).astype(np.int32)), pa.array(words))


def _codes(values: Sequence[Any]) -> tuple[Numbers, int]:
    """Return a number for each value, equal for equal ones, and how many there are."""
    index = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return np.fromiter(map(index.__getitem__, values), np.int64, len(values)), len(index)


def _identities(values: Sequence[Any]) -> tuple[Numbers, int]:
    """Return a number for each object: most flows share the very one, and to hash what it holds takes long."""
    return _codes(list(map(id, values)))


def _together(parts: Sequence[tuple[Numbers, int]]) -> tuple[Numbers, Numbers]:
    """Return where each combination is met first, and which one each row has."""
    whole, room = parts[0]
    for codes, count in parts[1:]:
        if room * count >= ROOM:
            kinds, whole = np.unique(whole, return_inverse=True)
            room = len(kinds)
        whole, room = whole * count + codes, room * count
    _, met, places = np.unique(whole, return_index=True, return_inverse=True)
    return met, places


def _ends(
    naming: Naming, ends: list[FlowEnd], addresses: list[Address], workloads: list[WorkloadId | None]
) -> tuple[Numbers, dict[int, End]]:
    if not ends:
        return np.zeros(0, np.uint64), {}
    met, places = _together([_identities(ends), _codes(addresses), _codes(workloads)])
    return _named(naming, [End(ends[at], addresses[at], workloads[at]) for at in met.tolist()], places)


def _kinds(
    naming: Naming, keys: list[FlowKey], hosts: list[HostId], sizes: list[int]
) -> tuple[Numbers, dict[int, Kind]]:
    if not keys:
        return np.zeros(0, np.uint64), {}
    of_batch, count = _codes(hosts)
    parts = [(np.repeat(of_batch, sizes), count)]
    for name, code in CODED.items():
        parts.append(code(_each(name, keys)))
    met, places = _together(parts)
    spread = np.repeat(np.arange(len(hosts)), sizes)
    found = []
    for at in met.tolist():
        key = keys[at]
        _fits(key)
        found.append(Kind(hosts[spread[at]], *(getattr(key, name) for name in KIND[1:])))
    return _named(naming, found, places)


CODED: Final[dict[str, Callable[[Sequence[Any]], tuple[Numbers, int]]]] = {
    name: _identities if name in ("end", "verdict", "via") else _codes for name in KIND[1:]
}
"""How each part of a kind is numbered; an enum's members are each one object."""


def _named(naming: Naming, found: list[Any], places: Numbers) -> tuple[Numbers, dict[int, Any]]:
    ids = list(map(naming.id, found))
    return np.array(ids, np.uint64)[places], dict(zip(ids, found, strict=True))


def _fits(key: FlowKey) -> None:
    if not (0 <= key.protocol <= 255 and 0 <= key.port <= 65535):
        raise _refused("a flow holds a number that is none of its kind", f"protocol {key.protocol}, port {key.port}")


def _whole(values: Sequence[int], kind: Any) -> Numbers:
    """Return whole numbers; ``FlowStoreFailed`` where one does not fit."""
    try:
        return np.fromiter(values, kind, len(values))
    except (OverflowError, TypeError, ValueError) as problem:
        raise _refused("a flow holds a number that is none of its kind", str(problem)) from problem


def _moments(values: Sequence[float]) -> Numbers:
    moments = np.array(values, dtype=np.float64)
    if not (np.all(moments >= 0) and np.all(moments < LATEST)):
        raise _refused("a flow lies at a moment that no clock here can say", "before 1970 or after 2096")
    return np.rint(moments * MICRO).astype(np.int64)


def _micro(values: Sequence[float]) -> Numbers:
    spans = np.array(values, dtype=np.float64)
    if not (np.all(spans >= 0) and np.all(spans < LATEST)):
        raise _refused("a flow lived for a time that none lives", "below 0, endless, or not a number")
    return np.rint(spans * MICRO).astype(np.uint64)


def _refused(message: str, why: str) -> FlowStoreFailed:
    return FlowStoreFailed(
        f"{message}: {why}",
        kept="Nothing of this put was stored; what was stored before is as it was.",
        remedy="Drop the batch: its point is broken or not one of ours.",
    )


def packed(table: Any) -> bytes:
    """Return a table as an Arrow file, compressed."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    whole: bytes = sink.getvalue().to_pybytes()
    return whole


def end_rows(ends: dict[int, End], day: int) -> Any:
    """Return ends as a table for ``ends``; ``day`` counts from the epoch."""
    each = list(ends.values())
    return pa.table(
        {
            **_ids(ends, day),
            "address": pa.array([one.end.address for one in each], pa.string()),
            "workload": pa.array([one.end.workload for one in each], pa.string()),
            "labels": pa.array([list(one.end.labels) for one in each], pa.map_(pa.string(), pa.string())),
            "network": pa.array([one.end.network for one in each], pa.string()),
            "told_address": pa.array([one.told_address for one in each], pa.string()),
            "told_workload": pa.array([one.told_workload for one in each], pa.string()),
        }
    )


def kind_rows(kinds: dict[int, Kind], day: int) -> Any:
    """Return kinds as a table for ``kinds``."""
    each = list(kinds.values())
    numbers = {"protocol": pa.uint8(), "port": pa.uint16()}
    return pa.table(
        {
            **_ids(kinds, day),
            **{name: pa.array(_plain(name, each), numbers.get(name, pa.string())) for name in KIND},
        }
    )


def _plain(name: str, kinds: Sequence[Kind]) -> list[Any]:
    values = _each(name, kinds)
    return [value.value for value in values] if name in ("end", "verdict", "via") else values


def _ids(named: dict[int, Any], day: int) -> dict[str, Any]:
    return {
        "id": pa.array(list(named), pa.uint64()),
        "day": pa.array(np.full(len(named), day, np.int32), pa.date32()),
    }
