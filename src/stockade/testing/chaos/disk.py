"""A disk that can be filled, frozen and made read-only: ext4 in a file. Without it those faults are not assessed."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 48 << 20
CHUNK = 4096
NEEDED = ("mkfs.ext4", "mount", "umount", "fsfreeze", "chattr")


class Disk:
    """A mounted disk. ``path`` is where."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> Path:
        """Leave no byte free; return the file to remove again."""
        filler = self.path / "filler"
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(CHUNK * 16)):
                pass
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(CHUNK)):
                pass
        return filler

    def freeze(self) -> None:
        """Whoever writes hangs. Nobody who must go on may write meanwhile."""
        _do("fsfreeze", "--freeze", str(self.path))

    def thaw(self) -> None:
        """Let whoever hangs go on."""
        _do("fsfreeze", "--unfreeze", str(self.path))

    def lock(self, folder: Path) -> None:
        """Nothing can be made, renamed or removed in a folder any more, not even by root."""
        _do("chattr", "+i", str(folder))

    def unlock(self, folder: Path) -> None:
        """It can again."""
        _do("chattr", "-i", str(folder))


@contextmanager
def disk(folder: Path) -> Iterator[Disk | None]:
    """Mount a disk of its own below a folder; None where this machine has no loop devices for us, or no ext4."""
    if not all(map(shutil.which, NEEDED)):
        yield None
        return
    image, path = folder / "disk.img", folder / "disk"
    path.mkdir()
    with image.open("wb") as file:
        os.truncate(file.fileno(), SIZE)
    made = subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(image)], capture_output=True, check=False)
    if (
        made.returncode
        or subprocess.run(["mount", "-o", "loop", image, path], capture_output=True, check=False).returncode
    ):
        yield None
        return
    try:
        yield Disk(path)
    finally:
        _do("umount", "--lazy", str(path))


def _do(*argv: str) -> None:
    subprocess.run(argv, check=True, timeout=30)
