"""Batches of flows on disk, from when they are made until the controller has stored them: a bounded queue of files.

Each is there whole or not at all. When there are too many the oldest go, and what is lost with them is counted.
"""

import contextlib
import threading
import time
from pathlib import Path

import msgspec

from stockade.core.model.flow import FlowLoss
from stockade.core.model.flow_table import FlowBatch
from stockade.decoding import ready

FOLDER, HEARD = "flows", "heard"
MOST = 64 << 20
"""Bytes kept, at most."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ready(FlowBatch)).decode


class Spool:
    """The queue in one folder, which nobody else writes to. ``put`` and ``first`` may be called from two threads."""

    def __init__(self, state: Path, most: int = MOST) -> None:
        self._folder = state / FOLDER
        self._most = most
        self.dropped = 0
        """Flows that were lost because there was no room for them."""
        self.damaged = 0
        """Files that could not be read, and were removed."""
        self._unsaid: list[FlowLoss] = []
        self._lock = threading.Lock()
        self._sizes = {path: path.stat().st_size for path in self._files()}
        self._next = 1 + max((int(path.name) for path in self._sizes), default=-1)

    def __len__(self) -> int:
        """How many batches wait."""
        return len(self._sizes)

    def put(self, batch: FlowBatch) -> None:
        """Add a batch at the end. ``OSError``: it is not there, and all others are."""
        data = _encode(batch)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._next:016d}"
        new = path.with_suffix(".new")
        try:
            new.write_bytes(data)
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        self._next += 1
        with self._lock:
            self._sizes[path] = len(data)
            while sum(self._sizes.values()) > self._most and len(self._sizes) > 1:
                self._drop(min(self._sizes))

    def unsaid(self) -> tuple[FlowLoss, ...]:
        """Return, once, the losses that dropped batches would have told of."""
        with self._lock:
            found, self._unsaid = tuple(self._unsaid), []
        return found

    def first(self) -> tuple[Path, FlowBatch] | None:
        """Return the oldest batch and its file, for ``done``; None where nothing waits."""
        with self._lock:
            while self._sizes:
                path = min(self._sizes)
                try:
                    return path, _decode(path.read_bytes())
                except (OSError, msgspec.DecodeError):
                    self.damaged += 1
                    self._remove(path)
        return None

    def done(self, path: Path) -> None:
        """The controller has it."""
        with self._lock:
            self._remove(path)

    def heard(self) -> float:
        """Note that the kernel is being heard now; return the seconds since that was noted before, 0 at first."""
        mark = self._folder / HEARD
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        now = time.time()
        before = mark.stat().st_mtime if mark.exists() else now
        mark.touch(0o600)
        return max(now - before, 0.0)

    def _remove(self, path: Path) -> None:
        self._sizes.pop(path, None)
        path.unlink(missing_ok=True)

    def _drop(self, path: Path) -> None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            batch = _decode(path.read_bytes())
            self.dropped += len(batch.flows)
            self._unsaid += batch.lost
        self._remove(path)

    def _files(self) -> list[Path]:
        """What an earlier agent left; what it had not finished goes."""
        if not self._folder.is_dir():
            return []
        for path in self._folder.glob("*.new"):
            path.unlink(missing_ok=True)
        return [path for path in self._folder.iterdir() if path.name.isdigit()]
