"""Text fits the terminal it goes to: 80 columns, a pipe, no colour, no Unicode."""

import io
import subprocess
import sys

import pytest

from stockade.cli.output import ALLOWED, Line, Span, columns, line, unicode_ok
from stockade.cli.output import _write as write


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class AsciiPipe(io.StringIO):
    encoding = "ascii"


def texts(view: list[Line]) -> list[str]:
    return ["".join(span.text for span in spans) for spans in view]


def test_columns_align_and_a_row_too_wide_gets_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    view = texts(list(columns(("A", "B"), [("one", "short"), ("three", "x" * 30)])))
    assert view == ["A      B", "one    short", "three  ", "    " + "x" * 30]


def test_a_terminal_gets_colour_unless_it_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    seen = Terminal()
    write([line(ALLOWED, " allowed")], seen)
    assert "\x1b[" in seen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    seen = Terminal()
    write([line(ALLOWED, " allowed")], seen)
    assert seen.getvalue() == "● allowed\n"


def test_a_pipe_gets_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    write([line(ALLOWED, " allowed")], pipe)
    assert "\x1b[" not in pipe.getvalue()


def test_without_unicode_the_shapes_stay_apart() -> None:
    pipe = AsciiPipe()
    assert not unicode_ok(pipe)
    write([line("● ✕ ◐ ? a → b │ – é")], pipe)
    assert pipe.getvalue() == "o x ~ ? a -> b | - \\xe9\n"


def test_markup_in_a_name_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    seen = Terminal()
    write([line(Span("[red]x[/red]", "bold"))], seen)
    assert "[red]x[/red]" in seen.getvalue()


def test_control_characters_in_a_name_do_not_reach_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    write([line("evil\x1b]0;title\x07\rname\nline")], seen)
    assert "\x1b]0" not in seen.getvalue()
    assert "\r" not in seen.getvalue()
    assert seen.getvalue().count("\n") == 1


def test_version_loads_nothing_heavy() -> None:
    code = (
        "import sys; from stockade.cli.main import run; run(['version']); "
        "print([m for m in ('httpx', 'sqlalchemy', 'starlette', 'numpy', 'rich') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.splitlines()[1:] == ["[]"]


def test_who_asks_over_the_api_loads_nothing_that_compiles() -> None:
    code = (
        "import sys; import stockade.cli.client; "
        "print([m for m in ('numpy', 'pyroaring', 'stockade.core.compile.compiler') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == "[]\n"
