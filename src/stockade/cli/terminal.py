"""A terminal, whole screen: frames of lines out, keys in. It is as it was before, however the program ends.

What a frame says can never steer the terminal: texts are made harmless before they are styled, and cut to the width.
"""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType

from rich.cells import cell_len, set_cell_size

from stockade.cli.output import Line, Span, harmless, unicode_ok, width

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J", "\x1b[0m\x1b[?25h\x1b[?1049l"
SGR = {
    "bold": "1", "dim": "2", "reverse": "7",
    "red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36",
}  # fmt: skip
KEYS = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\x1b": "escape", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x15": "clear",
}  # fmt: skip
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONE = 0.05
"""Seconds after which an escape that nothing follows is the key of that name."""
READ = 4096


def is_terminal() -> bool:
    """Tell whether a whole screen can be shown and keys can be read."""
    both = sys.stdin.isatty() and sys.stdout.isatty()
    return both and os.environ.get("TERM", "dumb") not in ("dumb", "")


class Terminal:
    """Use as a context. ``ended`` is the signal that asked for an end; None: none did."""

    def __init__(self) -> None:
        self.ended: int | None = None
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._coloured = not os.environ.get("NO_COLOR")
        self._symbols = unicode_ok(sys.stdout)
        self._shown: list[str] = []
        self._pending = ""
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> "Terminal":
        self._before = termios.tcgetattr(self._in)
        self._handlers = {each: signal.signal(each, self._end) for each in ENDING}
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resized)
        self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._suspend)
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _take(self) -> None:
        tty.setcbreak(self._in, termios.TCSANOW)
        self._shown = []
        self._write(ENTER)

    def _give_back(self) -> None:
        self._write(LEAVE)
        termios.tcsetattr(self._in, termios.TCSANOW, self._before)

    # Signals

    def _end(self, number: int, _: FrameType | None) -> None:
        self.ended = number
        self.wake()

    def _resized(self, _number: int, _: FrameType | None) -> None:
        self._shown = []
        self.wake()

    def _suspend(self, _number: int, _: FrameType | None) -> None:
        """Leave the screen to the shell, and take it again when brought back."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self.wake()

    def wake(self) -> None:
        """Have ``keys`` return at once. From any thread, and from signals."""
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            return

    # Keys

    def keys(self, wait: float) -> Iterator[str]:
        """Yield what was typed within some seconds, at once when woken: names of keys, or single characters."""
        ready, _, _ = select.select([self._in, self._wake_read], [], [], wait)
        if self._wake_read in ready:
            os.read(self._wake_read, READ)
        if self._in in ready:
            data = os.read(self._in, READ)
            if not data:
                self.ended = signal.SIGHUP
            self._pending += data.decode(errors="replace")
        yield from self._read()

    def _read(self) -> Iterator[str]:
        while self._pending:
            if self._pending == "\x1b" and select.select([self._in], [], [], LONE)[0]:
                self._pending += os.read(self._in, READ).decode(errors="replace")
            found = next((each for each in sorted(KEYS, key=len, reverse=True) if self._pending.startswith(each)), "")
            if found == "\x1b" and self._pending[1:2] in ("[", "O"):
                self._pending = _after_sequence(self._pending)
                continue
            key, self._pending = (found or self._pending[0]), self._pending[len(found or " ") :]
            if name := KEYS.get(key, key if key.isprintable() else ""):
                yield name

    # Frames

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        try:
            found = os.get_terminal_size(self._out)
        except OSError:
            return width(), 24
        return max(found.columns, 1), max(found.lines, 1)

    def show(self, lines: Sequence[Line]) -> None:
        """Show a frame: what is more than fits is left out, what was shown already is not written again."""
        columns, rows = self.size
        drawn = [self._drawn(each, columns) for each in lines[:rows]]
        drawn += [""] * (rows - len(drawn))
        changed = [
            f"\x1b[{at + 1};1H\x1b[0m{text}\x1b[0m\x1b[K"
            for at, text in enumerate(drawn)
            if at >= len(self._shown) or self._shown[at] != text
        ]
        self._shown = drawn
        self._write("".join(changed))

    def _drawn(self, spans: Line, columns: int) -> str:
        left, pieces = columns, []
        for span in spans:
            text = harmless(span.text, symbols=self._symbols)
            if cell_len(text) > left:
                text = set_cell_size(text, left)
            left -= cell_len(text)
            pieces.append(self._styled(text, span))
        return "".join(pieces)

    def _styled(self, text: str, span: Span) -> str:
        codes = [SGR[each] for each in span.style.split() if each in SGR and (self._coloured or each == "reverse")]
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes and text else text

    def _write(self, text: str) -> None:
        data = text.encode(errors="replace")
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except BlockingIOError:
                select.select([], [self._out], [], 1.0)
            except OSError:  # the terminal is gone: there is nobody to write to
                self.ended = self.ended or signal.SIGHUP
                return


def _after_sequence(text: str) -> str:
    """Return what follows an escape sequence that means nothing here."""
    for at, each in enumerate(text[2:], 2):
        if "@" <= each <= "~":
            return text[at + 1 :]
    return ""


@contextmanager
def whole_screen() -> Iterator[Terminal]:
    """Give the terminal, and end as the signal would have that asked for an end, once it is given back."""
    with Terminal() as terminal:
        yield terminal
    if terminal.ended in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(terminal.ended, signal.SIG_DFL)
        os.kill(os.getpid(), terminal.ended)
