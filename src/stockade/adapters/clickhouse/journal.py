"""Puts that have begun and not ended: a file for each, on the disk before ClickHouse hears of its flows."""

import os
from collections.abc import Container, Sequence
from pathlib import Path

import msgspec

from stockade.adapters.clickhouse.columns import newest
from stockade.core.model.ids import HostId
from stockade.decoding import ready
from stockade.seams.flow_store import FlowStoreFailed, StoredBatch

SUFFIX = ".put"


class Loss(msgspec.Struct, frozen=True, array_like=True):
    """A loss as its row will be."""

    seq: int
    place: str
    what: str
    count: int


class Entered(msgspec.Struct, frozen=True, array_like=True):
    """A batch without its flows. ``newest``: seconds since the epoch of the newest thing in it."""

    host: HostId
    stream: str
    number: int
    until: float
    newest: int
    flows: int
    lost: tuple[Loss, ...]


class Begun(msgspec.Struct, frozen=True, array_like=True):
    """One put: its flows as an Arrow file (marks included), the hours they lie in, and the batches they come from."""

    put: int
    hours: tuple[int, ...]
    batches: tuple[Entered, ...]
    flows: bytes


def entered(batch: StoredBatch) -> Entered:
    """Return what is kept of a batch beside its flows."""
    last = int(newest(batch.flows.rows) if len(batch.flows) else batch.until)
    lost = tuple(Loss(seq, each.where, each.what, each.count) for seq, each in enumerate(batch.lost))
    return Entered(batch.host, batch.stream, batch.number, batch.until, last, len(batch.flows), lost)


class Journal:
    """The folder of puts that have begun. What is not whole was never begun: ClickHouse has not heard of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def begin(self, begun: Begun) -> None:
        """Have a put on the disk."""
        path = self._path(begun.put)
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                file.write(msgspec.msgpack.encode(begun))
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self._sync()

    def end(self, put: int) -> None:
        """Forget a put: all of it is stored."""
        self._path(put).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what a process before this one did not live to begin."""
        for each in self._folder.glob("*.partial"):
            each.unlink(missing_ok=True)

    def pending(self, besides: Container[int] = ()) -> Sequence[Begun]:
        """Return the puts that have begun and not ended, but for those that others have under way.

        Whoever has one under way names it in ``besides`` before it begins, and until it has ended.
        """
        begun = sorted(self._folder.glob(f"*{SUFFIX}"))  # all of them, before any is looked for there
        found = [_read(path) for path in begun if int(path.stem, 16) not in besides]
        return [each for each in found if each is not None]

    def _path(self, put: int) -> Path:
        return self._folder / f"{put:016x}{SUFFIX}"

    def _sync(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> Begun | None:
    """Return what a file holds; None where it is gone, since its put has ended."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=ready(Begun))
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as problem:
        raise FlowStoreFailed(
            f"a put in progress cannot be read: {path}: {problem}",
            kept="Nothing was changed. Flows of that put may be stored in part.",
            remedy="Move the file away to go on: what of its flows is not stored is then lost.",
        ) from problem
