"""A terminal that knows a handful of sequences and fails at any other: what steers it was meant to, or it is found.

``Pty`` runs a program on a real pseudo-terminal and reads what it writes into one.
"""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence

from rich.cells import cell_len

SEQUENCE = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")
PATIENCE = 60.0


class StrictTerminal:
    """The screen, the other screen, and whether the cursor is shown."""

    def __init__(self, columns: int, rows: int) -> None:
        self.resize(columns, rows)
        self.alternate = False
        self.cursor = True
        self.styles: set[str] = set()
        self.settled = True
        """False once the size has changed: a frame that was drawn for another is cut off, as terminals do."""
        self._row = self._column = 0
        self._rest = ""

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.screen = [""] * rows

    @property
    def text(self) -> str:
        return "\n".join(self.screen)

    def feed(self, text: str) -> None:
        text = self._rest + text
        self._rest = ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                found = SEQUENCE.match(text, at)
                if found is None:
                    assert len(text) - at < 12, f"a sequence that nobody meant: {text[at : at + 20]!r}"
                    self._rest = text[at:]
                    return
                self._obey(found[1], found[2])
                at = found.end()
                continue
            if not self.alternate and text[at] in "\r\n":
                at += 1
                continue
            assert text[at].isprintable(), f"a control character: {text[at]!r}"
            self._put(text[at])
            at += 1

    def _put(self, each: str) -> None:
        if self.alternate and (self.settled or self._row < self.rows):
            assert self._row < self.rows, "written below the screen"
            line = self.screen[self._row].ljust(self._column)
            self.screen[self._row] = line[: self._column] + each
            self._column += 1
            if not self.settled:
                self.screen[self._row] = self.screen[self._row][: self.columns]
            assert cell_len(self.screen[self._row]) <= self.columns, f"too wide: {self.screen[self._row]!r}"

    def _obey(self, given: str, what: str) -> None:
        match what:
            case "m":
                self.styles |= {each for each in given.split(";") if each not in ("", "0")}
            case "H":
                row, column = [int(each or 1) for each in (given or "1;1").split(";")]
                self._row, self._column = row - 1, column - 1
            case "K" if self._row >= self.rows and not self.settled:
                return
            case "K":
                self.screen[self._row] = self.screen[self._row][: self._column]
            case "J" if given == "2":
                self.screen = [""] * self.rows
            case "h" | "l" if given == "?1049":
                self.alternate = what == "h"
            case "h" | "l" if given == "?25":
                self.cursor = what == "h"
            case _:
                raise AssertionError(f"a sequence that nobody meant: {given}{what}")


class Pty:
    """A program on a terminal of its own."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str], columns: int = 80, rows: int = 24) -> None:
        self.terminal = StrictTerminal(columns, rows)
        self.master, self.slave = pty.openpty()
        self._sized(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        streams = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave}
        self.process = subprocess.Popen(["setsid", "--ctty", *argv], **streams, env=environment)

    def _sized(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self.read(0.1)
        self.terminal.settled = False
        self.terminal.resize(columns, rows)
        self._sized(columns, rows)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self, wait: float) -> None:
        if select.select([self.master], [], [], wait)[0]:
            with contextlib.suppress(OSError):
                self.terminal.feed(os.read(self.master, 65536).decode(errors="replace"))

    def until(self, so: Callable[[StrictTerminal], bool]) -> StrictTerminal:
        deadline = time.monotonic() + PATIENCE
        while not so(self.terminal):
            assert time.monotonic() < deadline, self.terminal.text
            assert self.process.poll() is None, self.terminal.text
            self.read(0.05)
        return self.terminal

    def shows(self, *texts: str) -> StrictTerminal:
        return self.until(lambda it: all(text in it.text for text in texts))

    def ended(self) -> int:
        """Wait until the program has ended; say how."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            self.read(0.05)
        self.read(0.2)
        return self.process.returncode

    def as_before(self) -> bool:
        """Whether the terminal is as it was before the program took it."""
        given_back = not self.terminal.alternate and self.terminal.cursor
        return given_back and termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
        os.close(self.master)
        os.close(self.slave)
