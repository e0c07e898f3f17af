"""Flows → columns. Words become dictionaries, ends become numbers; what cannot be kept is refused before all else."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from stockade.adapters.clickhouse.schema import COUNTS
from stockade.core.model.flow import FlowEnd, StoredFlow
from stockade.core.model.ids import Address, WorkloadId
from stockade.seams.flow_store import FlowStoreFailed, StoredBatch

LATEST = 4_000_000_000
"""Seconds since the epoch up to which a moment is one: ClickHouse's clocks end in 2106."""
MICRO = 1_000_000
HOUR = 3600
KEPT_IDS = 1_000_000

T = TypeVar("T")
Moments = Any
"""A numpy array of microseconds."""


class End(msgspec.Struct, frozen=True, array_like=True):
    """One end of a flow: as it was known when it was stored, and as the point itself told of it."""

    end: FlowEnd
    told_address: Address
    told_workload: WorkloadId | None


class Columns(msgspec.Struct, frozen=True):
    """Flows as one table, the ends that it names by their ids, and the hours that it lies in."""

    table: Any
    ends: dict[int, End]
    hours: tuple[int, ...]


class Naming:
    """Gives ends their ids: the hash of what they are, keyed so that nobody can make two alike."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._ids: dict[End, int] = {}

    def id(self, end: End) -> int:
        """Return an end's id; the same end has the same one for ever."""
        known = self._ids.get(end)
        if known is None:
            if len(self._ids) >= KEPT_IDS:
                self._ids.clear()
            text = msgspec.msgpack.encode(end)
            known = int.from_bytes(hashlib.blake2b(text, digest_size=8, key=self._key).digest(), "little")
            self._ids[end] = known
        return known


def columns(batches: Sequence[StoredBatch], put: int, naming: Naming) -> Columns:
    """Return the batches' flows as a table for ``flows_in``, with a mark for each hour."""
    flows = [flow for batch in batches for flow in batch.flows]
    keys = [flow.key for flow in flows]
    tallies = [flow.tally for flow in flows]
    first = _moments([tally.first for tally in tallies])
    last = _moments([tally.last for tally in tallies])
    hours = tuple(int(hour) for hour in np.unique(first // (HOUR * MICRO) * HOUR))
    marks = len(hours)
    ends: dict[int, End] = {}
    source = _ends(flows, naming, ends, lambda flow: (flow.source, flow.key.source, flow.key.source_workload))
    destination = _ends(
        flows, naming, ends, lambda flow: (flow.destination, flow.key.destination, flow.key.destination_workload)
    )
    marked = np.array(hours, dtype=np.int64) * MICRO
    sizes = [len(batch.flows) for batch in batches]
    table = pa.table(
        {
            "source": _numbers(source, marks, np.uint64),
            "destination": _numbers(destination, marks, np.uint64),
            "protocol": _numbers([key.protocol for key in keys], marks, np.uint8),
            "port": _numbers([key.port for key in keys], marks, np.uint16),
            "end": _words([key.end.value for key in keys], marks),
            "verdict": _words([key.verdict.value for key in keys], marks),
            "rule": _words([key.rule for key in keys], marks),
            "via": _words([key.via.value for key in keys], marks),
            "host": _words(list(_spread([batch.host for batch in batches], sizes)), marks),
            "service": _words([key.service for key in keys], marks),
            "process": _words([key.process for key in keys], marks),
            "put": pa.array(np.concatenate([np.zeros(len(flows), np.uint64), np.full(marks, put, np.uint64)])),
            "stream": _words(list(_spread([batch.stream for batch in batches], sizes)), marks),
            "number": _numbers(list(_spread([batch.number for batch in batches], sizes)), marks, np.uint64),
            "seq": _numbers(list(itertools.chain.from_iterable(range(size) for size in sizes)), marks, np.uint32),
            "first": pa.array(np.concatenate([first, marked]), pa.timestamp("us", "UTC")),
            "last": pa.array(np.concatenate([last, marked]), pa.timestamp("us", "UTC")),
            **{name: _numbers(list(map(attrgetter(name), tallies)), marks, np.uint64) for name in COUNTS[:-1]},
            "lived": _numbers(_micro([tally.seconds for tally in tallies]), marks, np.uint64),
        }
    )
    return Columns(table, ends, hours)


def _spread(values: Sequence[T], sizes: Sequence[int]) -> Iterable[T]:
    return itertools.chain.from_iterable(
        itertools.repeat(value, size) for value, size in zip(values, sizes, strict=True)
    )


def _ends(
    flows: Sequence[StoredFlow],
    naming: Naming,
    into: dict[int, End],
    parts: Callable[[StoredFlow], tuple[FlowEnd, Address, WorkloadId | None]],
) -> list[int]:
    """Return the id of each flow's end. Most flows share the very object, so that few are hashed."""
    seen: dict[tuple[int, Address, WorkloadId | None], int] = {}
    ids = []
    for flow in flows:
        end, address, workload = parts(flow)
        place = (id(end), address, workload)
        known = seen.get(place)
        if known is None:
            whole = End(end, address, workload)
            known = seen[place] = naming.id(whole)
            into[known] = whole
        ids.append(known)
    return ids


def _words(values: list[str], marks: int) -> Any:
    """Return a dictionary of words, the empty one for marks."""
    index: dict[str, int] = {"": 0}
    places = [index.setdefault(value, len(index)) for value in values]
    codes = np.concatenate([np.array(places, dtype=np.int32), np.zeros(marks, np.int32)])
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(index), pa.string()))


def _numbers(values: Any, marks: int, kind: Any) -> Any:
    """Return numbers, zero for marks; ``FlowStoreFailed`` where one does not fit."""
    try:
        column = np.array(values, dtype=kind)
    except (OverflowError, TypeError, ValueError) as problem:
        raise _refused("a flow holds a number that is none of its kind", str(problem)) from problem
    return pa.array(np.concatenate([column, np.zeros(marks, kind)]))


def _moments(values: list[float]) -> Moments:
    moments = np.array(values, dtype=np.float64)
    if moments.size and not (np.all(moments >= 0) and np.all(moments < LATEST)):
        raise _refused("a flow lies at a moment that no clock here can say", "before 1970 or after 2096")
    return np.rint(moments * MICRO).astype(np.int64)


def _micro(values: list[float]) -> Moments:
    spans = np.array(values, dtype=np.float64)
    if spans.size and not (np.all(spans >= 0) and np.all(spans < LATEST * 1000)):
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
    ids, each = list(ends), list(ends.values())
    return pa.table(
        {
            "id": pa.array(ids, pa.uint64()),
            "day": pa.array(np.full(len(ids), day, np.int32), pa.date32()),
            "address": pa.array([one.end.address for one in each], pa.string()),
            "workload": pa.array([one.end.workload for one in each], pa.string()),
            "labels": pa.array([list(one.end.labels) for one in each], pa.map_(pa.string(), pa.string())),
            "network": pa.array([one.end.network for one in each], pa.string()),
            "told_address": pa.array([one.told_address for one in each], pa.string()),
            "told_workload": pa.array([one.told_workload for one in each], pa.string()),
        }
    )
