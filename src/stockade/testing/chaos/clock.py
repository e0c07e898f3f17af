"""A wall clock that jumps for ``stockade up`` and its helper alone: the kernel has no namespace for it.

The clock is a small library (``clock.c``) before the C library's; ``python`` is an interpreter that has it loaded.
"""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """A clock that is set by a file. ``python``: what to start programs with."""

    def __init__(self, folder: Path) -> None:
        self.library, self.python = folder / "clock.so", folder / "python"
        self._offset = folder / "offset"
        self.shift(0)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", self.library, SOURCE, "-ldl"], check=True)
        setting = f'CHAOS_CLOCK="{self._offset}" LD_PRELOAD="{self.library}"'
        self.python.write_text(f'#!/bin/sh\n{setting} exec "{sys.executable}" "$@"\n', encoding="utf-8")
        self.python.chmod(0o755)

    def shift(self, seconds: int) -> None:
        """Set the clock so many seconds forwards (or backwards) from the true one."""
        if not self._offset.exists():
            self._offset.write_bytes(bytes(8))
        with self._offset.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))

    def rules(self, pid: int) -> bool:
        """Tell whether a process goes by it."""
        return str(self.library) in Path(f"/proc/{pid}/maps").read_text(encoding="ascii", errors="replace")


def clock(folder: Path) -> Clock | None:
    """Build one; None where there is no C compiler."""
    return Clock(folder) if shutil.which("gcc") else None
