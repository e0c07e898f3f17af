"""How every benchmark prints: one figure a line, beside its target and what it is compared with."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence

import msgspec


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


def options(about: str | None) -> argparse.Namespace:
    """Parse ``--quick`` and ``--json``."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="a smaller world, for the inner loop")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure and line")
    return parser.parse_args()


def show(figures: Iterable[Figure], *, as_json: bool) -> None:
    """Print figures as they come."""
    for each in figures:
        if as_json:
            print(json.dumps(msgspec.to_builtins(each)))
        else:
            mark = {True: "met", False: "MISSED", None: ""}[each.met]
            beside = f"  ({each.compared_with})" if each.compared_with else ""
            print(f"{each.name:<52} {each.value:>12.4g} {each.unit:<10} {each.target:<12} {mark}{beside}")
        sys.stdout.flush()
