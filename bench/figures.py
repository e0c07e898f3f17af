"""How every benchmark prints: one figure a line, beside its target and what it is compared with."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from typing import NoReturn

import msgspec

from stockade.cli.failing import guarded


class Figure(msgspec.Struct, frozen=True):
    """One measured figure. ``met`` is None where there is no target."""

    name: str
    value: float
    unit: str
    target: str = ""
    met: bool | None = None
    compared_with: str = ""


def at_most(name: str, value: float, unit: str, limit: float, compared_with: str = "") -> Figure:
    """Return a figure whose target is an upper bound."""
    return Figure(name, value, unit, f"<= {limit:g}", value <= limit, compared_with)


def at_least(name: str, value: float, unit: str, limit: float, compared_with: str = "") -> Figure:
    """Return a figure whose target is a lower bound."""
    return Figure(name, value, unit, f">= {limit:g}", value >= limit, compared_with)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of the values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


Measure = Callable[..., Iterable[Figure] | AsyncIterable[Figure]]
"""``figures(quick=…)``: what a benchmark measures, as it is measured; of some ``parts`` alone where it has any."""


def program(
    about: str | None, figures: Measure, prepare: Callable[[], None] = lambda: None, *, parts: Sequence[str] = ()
) -> NoReturn:
    """Be a benchmark: ``prepare``, print figures as they come (``--quick``, ``--json``), fail as a verb does."""
    asked = options(about, parts)
    chosen = {"parts": frozenset(asked.only or parts)} if parts else {}

    def run() -> int:
        prepare()
        return _printed(figures(quick=asked.quick, **chosen), as_json=asked.json)

    sys.exit(guarded(run))


def options(about: str | None, parts: Sequence[str] = ()) -> argparse.Namespace:
    """Parse ``--quick``, ``--json`` and, where there are parts, which are wanted."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="a smaller world, for the inner loop")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure and line")
    if parts:
        parser.add_argument("--only", action="append", choices=parts, help="one part; may be given again")
    return parser.parse_args()


def _printed(figures: Iterable[Figure] | AsyncIterable[Figure], *, as_json: bool) -> int:
    if isinstance(figures, Iterable):
        show(figures, as_json=as_json)
    else:
        asyncio.run(show_as_they_come(figures, as_json=as_json))
    return 0


def show(figures: Iterable[Figure], *, as_json: bool) -> None:
    """Print figures as they come."""
    for each in figures:
        print(msgspec.json.encode(each).decode() if as_json else _line(each), flush=True)


async def show_as_they_come(figures: AsyncIterable[Figure], *, as_json: bool) -> None:
    """Print figures that are measured within an event loop."""
    async for each in figures:
        show([each], as_json=as_json)


def number(value: float) -> str:
    """Return a value as it is read: counts whole, the rest with three digits that mean something."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _line(each: Figure) -> str:
    mark = {True: "met", False: "MISSED", None: ""}[each.met]
    beside = f"  ({each.compared_with})" if each.compared_with else ""
    return f"{each.name:<72} {number(each.value):>10} {each.unit:<13} {each.target:<10} {mark}{beside}".rstrip()
