"""Writes the pages that the program itself knows best: ``docs/cli.md`` and ``docs/settings.md``.

``tests/docs`` fails where a page says another thing than the program.
"""

import io
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from cyclopts import App
from rich.console import Console

from stockade.cli.exits import Exit
from stockade.cli.main import VERBS, Verb, application
from stockade.cli.settings import SETTINGS

DOCS = Path(__file__).parent.parent / "docs"
WIDTH = 100


def pages() -> dict[str, str]:
    """Return each generated page's text by its name."""
    return {"cli.md": cli_page(), "settings.md": settings_page()}


def cli_page() -> str:
    """Every verb with its help."""
    app = application()
    rows = "\n".join(f"| [`{verb.name}`](#stockade-{verb.name}) | {verb.summary} |" for verb in VERBS)
    codes = "\n".join(f"| {code.value} | {CODES[code]} |" for code in Exit)
    verbs = "\n".join(text for verb in VERBS if _there(verb) for text in _sections(app, (verb.name,)))
    return CLI_HEAD.format(rows=rows, codes=codes) + verbs


def settings_page() -> str:
    """Every setting with its variables."""
    rows = "\n".join(
        f"| `{known.name}` | {', '.join(f'`{each}`' for each in known.variables)} | {known.summary} |"
        for known in SETTINGS
    )
    return SETTINGS_HEAD + rows + "\n"


CODES = {
    Exit.DONE: "done, nothing to report",
    Exit.ERROR: "error: what happened, what was kept and what to do next is on stderr",
    Exit.LOOK: "there is something to see: changes, a denial, findings",
    Exit.NOT_ASSESSED: "not assessed: nothing could be judged",
    Exit.INTERRUPTED: "ended by Ctrl-C",
}

CLI_HEAD = """# The command line

Written by `make docs` from the program itself.

Data goes to stdout, remarks to stderr. `-o json` and `-o yaml` print the same objects as the HTTP API. `NO_COLOR` and
pipes are respected; where the terminal has no Unicode, `● ✕ ◐ ? →` are `o x ~ ? ->`. Where flags, variables and the
settings file disagree: [settings](settings.md).

| verb | |
|---|---|
{rows}

| exit code | |
|---|---|
{codes}

"""

SETTINGS_HEAD = """# Settings

Written by `make docs` from the program itself.

A setting comes from its flag, else from a variable, else from the settings file, else from what is built in;
`stockade status` shows each with its origin. The settings file is TOML, `name = "value"`: `/etc/stockade/stockade.toml`
for root, else `~/.config/stockade/stockade.toml`; `--config` or `STOCKADE_CONFIG` names another. The state folder is
`/var/lib/stockade` for root, else `~/.local/state/stockade`. `STOCKADE_TRACE=1` adds the place in the program to the
report of a bug.

| setting | variables, the first that is set | |
|---|---|---|
"""


def _there(verb: Verb) -> bool:
    return find_spec(verb.where.partition(":")[0]) is not None


def _sections(app: App, path: tuple[str, ...]) -> Iterator[str]:
    yield f"## `stockade {' '.join(path)}`\n\n```\n{help_text(app, path)}\n```\n"
    for name in app[path[0]]:
        if len(path) == 1 and not name.startswith("-"):
            yield from _sections(app, (*path, name))


def help_text(app: App, path: tuple[str, ...]) -> str:
    """Return what ``stockade VERB --help`` prints."""
    printed = io.StringIO()
    app.help_print(list(path), console=Console(file=printed, width=WIDTH, color_system=None, force_terminal=False))
    return "\n".join(row.rstrip() for row in printed.getvalue().strip().splitlines())


def main() -> None:
    """Write the pages that changed."""
    for name, text in pages().items():
        page = DOCS / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}", file=sys.stderr)


if __name__ == "__main__":
    main()
