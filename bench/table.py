"""Every figure of a run as Markdown, in the page that quotes it (``python -m bench.table FOLDER [--print]``).

``FOLDER`` holds one file of figures for each benchmark, named after it. Between the page's markers nothing is written
by hand; with ``--print`` the page is left alone.
"""

import argparse
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.figures import Figure, number
from stockade import __version__

PAGE = Path(__file__).parents[1] / "docs" / "numbers.md"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
MARKS = {True: "met", False: "MISSED", None: ""}


def main() -> None:
    """Write the table, or print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--print", action="store_true", help="print it, and leave the page as it is")
    parser.add_argument("--note", default="", help="what a reader must know of this run")
    asked = parser.parse_args()
    found = {each.stem: read(each) for each in sorted(asked.folder.glob("*.jsonl"))}
    text = "\n".join([*([asked.note] if asked.note else []), *table(found)])
    if asked.print:
        print(text)
    else:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
        print(f"written: docs/{PAGE.name}")


def read(path: Path) -> list[Figure]:
    """Return the figures of one benchmark."""
    return [msgspec.json.decode(line, type=Figure) for line in path.read_bytes().splitlines()]


def written(page: str, text: str) -> str:
    """Put a table between a page's markers. ``ValueError`` where they are not there."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def table(found: dict[str, list[Figure]]) -> Iterator[str]:
    """Yield the lines: the machine, the verdict, then one table a benchmark."""
    every = [each for figures in found.values() for each in figures]
    missed = sum(each.met is False for each in every)
    yield f"Measured with Stockade {__version__} on {machine()}; {time.strftime('%Y-%m-%d', time.gmtime())}."
    yield f"{sum(each.met is True for each in every)} targets met, {missed} missed."
    for name, figures in found.items():
        yield from ("", f"### `python -m bench.{name}`", "")
        yield from ("| figure | value | target | | beside |", "|---|---|---|---|---|")
        yield from map(row, figures)


def row(each: Figure) -> str:
    """Return one figure as a row."""
    cells = (each.name, f"{number(each.value)} {each.unit}", each.target, MARKS[each.met], each.compared_with)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def machine() -> str:
    """Say on what this runs: kernel, processors, memory, Python, nft."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kind = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    cores = f"{len(os.sched_getaffinity(0))} cores" + (f" ({kind[1]})" if kind else "")
    return f"Linux {platform.release()}, {cores}, {memory:.0f} GB, Python {platform.python_version()}, nft {_nft()}"


def _nft() -> str:
    try:
        said = subprocess.run(["nft", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return "not installed"
    found = re.search(r"v([\d.]+)", said)
    return found[1] if found else "of unknown version"


if __name__ == "__main__":
    main()
