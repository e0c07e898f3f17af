"""Batches' columns → ClickHouse's. What ends and connections are goes into tables of its own, once for each.

What cannot be kept is refused before anything is. No flow costs a step of Python's own.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stockade.adapters.clickhouse.schema import COUNTS, KIND
from stockade.core.model.flow import Verdict, Via
from stockade.core.model.flow_table import CODES, PLACES, EndText, FlowKind, FlowRows, KeptEnd
from stockade.core.model.ids import HostId
from stockade.core.model.packet import Direction
from stockade.decoding import ready
from stockade.seams.flow_store import FlowsRefused, StoredBatch, end_of

LATEST = 4_000_000_000
"""Seconds since the epoch up to which a moment is one: ClickHouse's clocks end in 2106."""
MICRO = 1_000_000
MOMENT = pa.timestamp("us", "UTC")
HOUR, DAY = 3600, 86_400
KNOWN = 200_000
"""Ids that are remembered: most batches speak of what those before them spoke of."""
SIZES: Final = {"I": "<u4", "Q": "<u8", "d": "<f8"}

Numbers: TypeAlias = npt.NDArray[Any]


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


class Named(msgspec.Struct, frozen=True):
    """What an id stands for, as of a day since the epoch: a text, of which the id is made."""

    id: int
    day: int
    text: bytes


class Columns(msgspec.Struct, frozen=True):
    """Flows as one table, the hours it lies in, and what those of its ids stand for that are in no table yet."""

    table: Any
    hours: tuple[int, ...]
    ends: tuple[Named, ...]
    kinds: tuple[Named, ...]


class Naming:
    """Gives ends and kinds their ids: the hash of what they are, keyed so that nobody can make two alike.

    The same has the same one for ever. It remembers which are in their tables, and as of which day. From any thread.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[bytes, tuple[int, int]] = {}

    def ids(self, texts: Iterable[bytes], day: int, new: dict[bytes, Named]) -> list[int]:
        """Return the id of each; what is not in its table as of a day is added to ``new``, by its text."""
        known = self._known
        return [
            found[0] if (found := known.get(text)) and found[1] >= day else self._new(text, day, new) for text in texts
        ]

    def know(self, named: Collection[Named]) -> None:
        """Remember what is in its table now."""
        if len(self._known) + len(named) > KNOWN:
            self._known = {}
        self._known.update((each.text, (each.id, each.day)) for each in named)

    def _new(self, text: bytes, day: int, new: dict[bytes, Named]) -> int:
        if (found := new.get(text)) is None:
            hashed = hashlib.blake2b(text, digest_size=8, key=self._key).digest()
            found = new[text] = Named(int.from_bytes(hashed, "little"), day, text)
        return found.id


def columns(batches: Sequence[StoredBatch], put: int, naming: Naming) -> Columns:
    """Return the batches' flows as a table for ``flows_in``, with a mark for each hour."""
    sizes = [len(batch.flows) for batch in batches]
    moments = [_moments(_column(batch.flows.rows, "first", size)) for batch, size in zip(batches, sizes, strict=True)]
    hours = _hours(np.concatenate(moments))
    named = _Named(naming, int(hours.max(initial=0)) // DAY)
    found = [{**named.numbers(batch), "first": first} for batch, first in zip(batches, moments, strict=True)]
    marks = {
        "put": np.full(len(hours), put, np.uint64),
        "first": hours * MICRO,
        "last": hours * MICRO,
    }
    nothing = np.zeros(len(hours), np.uint64)
    columns = {
        name: np.concatenate([*(each[name] for each in found), marks.get(name, nothing).astype(column.dtype)])
        for name, column in found[0].items()
    }
    arrays = {name: pa.array(column, MOMENT if name in ("first", "last") else None) for name, column in columns.items()}
    streams = list(dict.fromkeys(batch.stream for batch in batches))
    codes = np.repeat([streams.index(batch.stream) for batch in batches], sizes)
    arrays["stream"] = pa.DictionaryArray.from_arrays(
        pa.array(np.concatenate([codes, nothing]).astype(np.int32)), pa.array(streams)
    )
    return Columns(pa.table(arrays), tuple(hours.tolist()), tuple(named.ends.values()), tuple(named.kinds.values()))


class _Named:
    """Batches' numbers, with the ids of their ends and kinds for places in tables of their own."""

    def __init__(self, naming: Naming, day: int) -> None:
        self._naming = naming
        self._day = day
        self.ends: dict[bytes, Named] = {}
        self.kinds: dict[bytes, Named] = {}

    def numbers(self, batch: StoredBatch) -> dict[str, Numbers]:
        """Return a batch's columns by name, all but its stream and when its flows were first seen."""
        rows, count = batch.flows.rows, len(batch.flows)
        encode = msgspec.msgpack.Encoder().encode
        told = {name: _column(rows, name, count) for name in CODES if name != "first"}
        ends = self._ids(self.ends, batch.flows.ends)
        kinds = self._ids(self.kinds, map(encode, (_kind(batch.host, each) for each in batch.flows.kinds)))
        return {
            **{name: _met(kinds if name == "kind" else ends, told[name]) for name in PLACES},
            "put": np.zeros(count, np.uint64),
            "number": np.full(count, batch.number, np.uint64),
            "seq": np.arange(count, dtype=np.uint32),
            **{name: told[name] for name in COUNTS[:-1]},
            "lived": _micro(told["seconds"]),
            "last": _moments(told["last"]),
        }

    def _ids(self, new: dict[bytes, Named], texts: Iterable[bytes]) -> Numbers:
        return np.array(self._naming.ids(texts, self._day, new), np.uint64)


def newest(rows: FlowRows) -> float:
    """Return when the newest flow began, in seconds since the epoch. There must be one."""
    return float(_column(rows, "first", len(rows)).max())


def _column(rows: FlowRows, name: str, count: int) -> Numbers:
    """Return a column without copying it; ``FlowsRefused`` where it is not as long as the others."""
    packed, kind = getattr(rows, name), np.dtype(SIZES[CODES[name]])
    if len(packed) != count * kind.itemsize:
        raise FlowsRefused.broken(
            "a batch's columns are not equally long", f"{name} has {len(packed)} bytes for {count} flows"
        )
    return np.frombuffer(packed, kind).astype(kind.newbyteorder("="), copy=False)


def _met(ids: Numbers, places: Numbers) -> Numbers:
    if len(places) and places.max() >= len(ids):
        raise FlowsRefused.broken("a flow's end or kind is not in its batch", f"place {places.max()} of {len(ids)}")
    found: Numbers = ids[places]
    return found


def _hours(first: Numbers) -> Numbers:
    """Return the hours that moments lie in, each the second at which it begins."""
    hours = first // (HOUR * MICRO)
    return np.unique(hours[np.flatnonzero(np.diff(hours, prepend=-1))]) * HOUR


def _kind(host: HostId, kind: FlowKind) -> Kind:
    if not (0 <= kind.protocol <= 255 and 0 <= kind.port <= 65535):
        why = f"protocol {kind.protocol}, port {kind.port}"
        raise FlowsRefused.broken("a flow holds a number that is none of its kind", why)
    return Kind(host, *msgspec.structs.astuple(kind))


def _moments(moments: Numbers) -> Numbers:
    if not (np.all(moments >= 0) and np.all(moments < LATEST)):
        raise FlowsRefused.broken("a flow lies at a moment that no clock here can say", "before 1970 or after 2096")
    whole: Numbers = np.rint(moments * MICRO).astype(np.int64)
    return whole


def _micro(spans: Numbers) -> Numbers:
    if not (np.all(spans >= 0) and np.all(spans < LATEST)):
        raise FlowsRefused.broken("a flow lived for a time that none lives", "below 0, endless, or not a number")
    whole: Numbers = np.rint(spans * MICRO).astype(np.uint64)
    return whole


def packed(table: Any) -> bytes:
    """Return a table as an Arrow file, compressed."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    whole: bytes = sink.getvalue().to_pybytes()
    return whole


def end_rows(ends: Sequence[Named]) -> Any:
    """Return ends as a table for ``ends``; ``FlowsRefused`` where one of them is none."""
    each = [_end(EndText(one.text)) for one in ends]
    return pa.table(
        {
            **_ids(ends),
            "address": pa.array([one.end.address for one in each], pa.string()),
            "workload": pa.array([one.end.workload for one in each], pa.string()),
            "labels": _maps([one.end.labels for one in each]),
            "network": pa.array([one.end.network for one in each], pa.string()),
            "told_address": pa.array([one.told_address for one in each], pa.string()),
            "told_workload": pa.array([one.told_workload for one in each], pa.string()),
            "told_name": pa.array([one.end.told for one in each], pa.string()),
        }
    )


def _end(text: EndText) -> KeptEnd:
    try:
        return end_of(text)
    except msgspec.MsgspecError as problem:
        raise FlowsRefused.broken("an end is none", str(problem)) from problem


def _maps(labels: Sequence[Sequence[tuple[str, str]]]) -> Any:
    offsets = np.cumsum([0, *map(len, labels)], dtype=np.int32)
    flat = [pair for some in labels for pair in some]
    keys, values = ([pair[place] for pair in flat] for place in (0, 1))
    return pa.MapArray.from_arrays(offsets, pa.array(keys, pa.string()), pa.array(values, pa.string()))


def kind_rows(kinds: Sequence[Named]) -> Any:
    """Return kinds as a table for ``kinds``."""
    each = [msgspec.msgpack.decode(one.text, type=ready(Kind)) for one in kinds]
    numbers = {"protocol": pa.uint8(), "port": pa.uint16()}
    return pa.table(
        {
            **_ids(kinds),
            **{name: pa.array(_plain(name, each), numbers.get(name, pa.string())) for name in KIND},
        }
    )


def _plain(name: str, kinds: Sequence[Kind]) -> list[Any]:
    values = [getattr(each, name) for each in kinds]
    return [value.value for value in values] if name in ("end", "verdict", "via") else values


def _ids(named: Sequence[Named]) -> dict[str, Any]:
    return {
        "id": pa.array([each.id for each in named], pa.uint64()),
        "day": pa.array(np.array([each.day for each in named], np.int32), pa.date32()),
    }
