"""Flows → columns of numbers. What ends and connections are goes into tables of its own, once for each.

What cannot be kept is refused before anything is. Every flow costs a few steps of C and none of Python's own.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
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
from stockade.seams.flow_store import FlowsRefused, StoredBatch

LATEST = 4_000_000_000
"""Seconds since the epoch up to which a moment is one: ClickHouse's clocks end in 2106."""
MICRO = 1_000_000
HOUR = 3600
KEPT_IDS = 100_000
ROOM = 1 << 62
SHARED = 4
"""Flows for each object from which on that is worth to be told apart by what it is alone."""

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
    whole = _apart(flows, ("source", "destination", "key", "tally"))
    keys: list[FlowKey] = whole["key"]
    tallies: list[Tally] = whole["tally"]
    times = _floats(tallies, ("first", "last", "seconds"))
    first, last, lived = _moments(times[:, 0]), _moments(times[:, 1]), _micro(times[:, 2])
    counts = _counts(tallies)
    parts = _apart(keys, ("source", "source_workload", "destination", "destination_workload", *KIND[1:]))
    hours = np.unique(first // (HOUR * MICRO) * HOUR)
    sizes = [len(batch.flows) for batch in batches]
    source, sources = _ends(naming, whole["source"], parts["source"], parts["source_workload"])
    destination, destinations = _ends(naming, whole["destination"], parts["destination"], parts["destination_workload"])
    kind, kinds = _kinds(naming, keys, parts, [batch.host for batch in batches], sizes)
    numbers = {
        "source": source,
        "destination": destination,
        "kind": kind,
        "put": np.zeros(len(flows), np.uint64),
        "number": np.repeat(_whole((batch.number for batch in batches), np.uint64, len(batches)), sizes),
        "seq": np.concatenate([np.arange(size, dtype=np.uint32) for size in sizes]),
        **{name: counts[:, place] for place, name in enumerate(COUNTS[:-1])},
        "lived": lived,
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


def _apart(values: Sequence[Any], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return a list for each attribute. Each value is touched once: what takes time is to fetch it from memory."""
    flat = list(itertools.chain.from_iterable(map(attrgetter(*names), values)))
    return {name: flat[place :: len(names)] for place, name in enumerate(names)}


def _floats(values: Sequence[Any], names: Sequence[str]) -> Numbers:
    flat = itertools.chain.from_iterable(map(attrgetter(*names), values))
    return np.fromiter(flat, np.float64, len(values) * len(names)).reshape(-1, len(names))


def _counts(tallies: Sequence[Tally]) -> Numbers:
    names = COUNTS[:-1]
    flat = itertools.chain.from_iterable(map(attrgetter(*names), tallies))
    return _whole(flat, np.uint64, len(tallies) * len(names)).reshape(-1, len(names))


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
    """Return a number for each object, without a look at what it holds."""
    return _codes(list(map(id, values)))


def _alike(values: Sequence[Any]) -> tuple[Numbers, int]:
    """Number by what is held only where the objects are not shared: to hash it takes longer than all else."""
    codes, count = _identities(values)
    return (codes, count) if count * SHARED <= len(values) else _codes(values)


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
    met, places = _together([_alike(ends), _codes(addresses), _codes(workloads)])
    return _named(naming, [End(ends[at], addresses[at], workloads[at]) for at in met.tolist()], places)


def _kinds(
    naming: Naming, keys: list[FlowKey], each: dict[str, list[Any]], hosts: list[HostId], sizes: list[int]
) -> tuple[Numbers, dict[int, Kind]]:
    if not keys:
        return np.zeros(0, np.uint64), {}
    of_batch, count = _codes(hosts)
    parts = [(np.repeat(of_batch, sizes), count)]
    for name, code in CODED.items():
        parts.append(code(each[name]))
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


def _whole(values: Iterable[int], kind: Any, count: int) -> Numbers:
    """Return whole numbers; ``FlowsRefused`` where one does not fit."""
    try:
        return np.fromiter(values, kind, count)
    except (OverflowError, TypeError, ValueError) as problem:
        raise _refused("a flow holds a number that is none of its kind", str(problem)) from problem


def _moments(moments: Numbers) -> Numbers:
    if not (np.all(moments >= 0) and np.all(moments < LATEST)):
        raise _refused("a flow lies at a moment that no clock here can say", "before 1970 or after 2096")
    whole: Numbers = np.rint(moments * MICRO).astype(np.int64)
    return whole


def _micro(spans: Numbers) -> Numbers:
    if not (np.all(spans >= 0) and np.all(spans < LATEST)):
        raise _refused("a flow lived for a time that none lives", "below 0, endless, or not a number")
    whole: Numbers = np.rint(spans * MICRO).astype(np.uint64)
    return whole


def _refused(message: str, why: str) -> FlowsRefused:
    return FlowsRefused(
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
            "told_name": pa.array([one.end.told for one in each], pa.string()),
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
