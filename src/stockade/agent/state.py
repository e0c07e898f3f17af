"""What an agent keeps on disk: its last assignment, so that it enforces before any controller answers."""

import os
from pathlib import Path

import msgspec

from stockade.wire import PROTOCOL, Assignment

NAME = "assignment"


class AssignmentFile:
    """One file in the state folder, replaced whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def read(self) -> Assignment | None:
        """Return the last assignment; None where there is none that this agent understands."""
        try:
            found = msgspec.msgpack.decode(self._path.read_bytes(), type=Assignment)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return found if found.protocol == PROTOCOL else None

    def write(self, assignment: Assignment) -> None:
        """Replace it. ``OSError`` (a full disk) leaves the one that was there."""
        new = self._path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.msgpack.encode(assignment))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        finally:
            new.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget it."""
        self._path.unlink(missing_ok=True)
