"""What an agent keeps on disk: what was in force last, so that it enforces before any controller answers."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from stockade.decoding import ready
from stockade.wire import PROTOCOL, Assignment

NAME = "assignment"


class _Kept(msgspec.Struct, frozen=True):
    """What is in the file."""

    assignment: Assignment


class AssignmentFile:
    """One file in the state folder, replaced whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def read(self) -> Assignment | None:
        """Return what was kept last; None where there is nothing that this agent understands."""
        try:
            found = msgspec.msgpack.decode(self._path.read_bytes(), type=ready(_Kept)).assignment
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return found if found.protocol == PROTOCOL else None

    def there(self) -> bool:
        """Tell whether anything was kept, understood or not."""
        return self._path.exists()

    def write(self, assignment: Assignment) -> None:
        """Replace it, so that a killed process leaves the old one or the new one. See ``settle``.

        ``OSError`` (a full disk): the old one stays. What the kernel holds tells whether that is still the last.
        """
        new = self._path.with_suffix(".new")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.msgpack.encode(_Kept(assignment)))
            new.replace(self._path)
        except OSError:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise

    def settle(self) -> None:
        """Have it outlive a power cut. Slow, and not waited for: with the power, what the kernel holds goes too."""
        for path, how in ((self._path, os.O_RDONLY), (self._path.parent, os.O_RDONLY | os.O_DIRECTORY)):
            descriptor = os.open(path, how)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def remove(self) -> None:
        """Forget it; where its folder lets nothing be removed, what is in it."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            os.truncate(self._path, 0)
