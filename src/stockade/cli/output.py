"""Where text goes: data to stdout, remarks to stderr; colour, symbols and width as the terminal has them.

A view is a sequence of lines, a line a sequence of spans. Nothing is ever cut off: what is printed can be typed back.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, NamedTuple

import msgspec

from stockade.cli.settings import Format


class Span(NamedTuple):
    """A piece of text and its rich style."""

    text: str
    style: str = ""


Line = tuple[Span, ...]
View = Iterable[Line]

# Shape and colour say the same thing twice.
ALLOWED = Span("●", "green")
DENIED = Span("✕", "red")
WOULD_DENY = Span("◐", "yellow")
UNKNOWN = Span("?", "magenta")

ASCII = str.maketrans({"●": "o", "✕": "x", "◐": "~", "→": "->", "│": "|", "–": "-", "…": "...", "·": "-", "✓": "+"})
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
GAP = "  "
PIPE_WIDTH = 80


def line(*spans: Span | str) -> Line:
    """Make a line of spans and plain texts."""
    return tuple(each if isinstance(each, Span) else Span(each) for each in spans)


def bold(text: str) -> Span:
    """Make a span that stands out."""
    return Span(text, "bold")


def dim(text: str) -> Span:
    """Make a span that stands back."""
    return Span(text, "dim")


def columns(headers: Sequence[str], rows: Iterable[Sequence[Span | str]], indent: str = "") -> View:
    """Lay out rows in aligned columns; where one is wider than the terminal, its last cell goes on its own line."""
    cells = [[each if isinstance(each, Span) else Span(each) for each in row] for row in rows]
    heads = [[dim(head) for head in headers]] if any(headers) else []
    for laid in _aligned(heads + cells, indent):
        yield from laid


def rows_of(rows: Iterable[Sequence[Span | str]], indent: str = "") -> Iterator[View]:
    """Lay out rows as ``columns`` does, each row's lines for themselves: for views that say more below a row."""
    yield from _aligned([[each if isinstance(each, Span) else Span(each) for each in row] for row in rows], indent)


def _aligned(rows: Sequence[Sequence[Span]], indent: str) -> Iterator[View]:
    many = max(map(len, rows), default=0)
    widths = [max(len(row[at].text) for row in rows) for at in range(many)]
    for row in rows:
        yield tuple(_row(row, widths, indent))


def _row(row: Sequence[Span], widths: Sequence[int], indent: str) -> View:
    *before, last = row
    aligned: list[Span] = [Span(indent)]
    for cell, size in zip(before, widths, strict=False):
        aligned += [cell, Span(" " * (size - len(cell.text)) + GAP)]
    if not before or sum(len(span.text) for span in (*aligned, last)) <= width():
        yield (*aligned, last)
        return
    yield tuple(aligned)
    yield (Span(indent + GAP * 2), last)


def width() -> int:
    """Return how many columns there are; in a pipe what ``COLUMNS`` says, or 80."""
    return shutil.get_terminal_size((PIPE_WIDTH, 24)).columns


def unicode_ok(stream: IO[str]) -> bool:
    """Tell whether a stream can carry the symbols."""
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    return encoding.startswith("utf") and os.environ.get("TERM") != "linux"


def show(view: View) -> None:
    """Write data to stdout."""
    _write(view, sys.stdout)


def remark(*spans: Span | str) -> None:
    """Write one remark to stderr."""
    _write([line(*spans)], sys.stderr)


def data(value: Any, form: Format) -> None:
    """Write a value to stdout as JSON or YAML: the same object as the HTTP API's."""
    print(rendered(value, form), end="", flush=True)


def rendered(value: Any, form: Format) -> str:
    """Return a value as JSON or YAML text, ending in a newline."""
    if form is Format.JSON:
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
    import yaml

    return yaml.safe_dump(msgspec.to_builtins(value), sort_keys=False, allow_unicode=True)


def _write(view: View, stream: IO[str]) -> None:
    symbols = unicode_ok(stream)
    if not _coloured(stream):
        for spans in view:
            print(harmless("".join(span.text for span in spans).rstrip(), symbols=symbols), file=stream)
        stream.flush()
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False, soft_wrap=True)
    for spans in view:
        pieces = [(harmless(span.text, symbols=symbols), span.style) for span in spans]
        console.print(Text.assemble(*pieces), soft_wrap=True)


def _coloured(stream: IO[str]) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def harmless(text: str, *, symbols: bool) -> str:
    """Names come from containers: what would steer a terminal, or turn the reading direction, is shown instead."""
    text = STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return text if symbols else text.translate(ASCII).encode("ascii", "backslashreplace").decode()
