"""Network sets, cut into cells: the addresses that lie in just the same sets, so that no overlap is forgotten."""

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from stockade.core.model.ids import Prefix

Names = frozenset[str]
Cell = tuple[Names, ...]
"""Addresses that no set tells apart: the sets that they lie in, by version."""
Prefixes = Mapping[str, tuple[Prefix, ...]]
"""The prefixes of network sets, by name."""
ELSEWHERE = "elsewhere"
"""An address outside the inventory in no network that policy names, where it was in one or will be."""


def cells(versions: Sequence[Prefixes]) -> list[Cell]:
    """Return every cell that lies in any set of any version, each once."""
    found: dict[Cell, None] = {}
    for family in (4, 6):
        for inside in _steps(versions, family):
            cell = tuple(frozenset(name for at, name in inside if at == version) for version in range(len(versions)))
            if any(cell):
                found[cell] = None
    return list(found)


def network_text(sets: Names, among: Iterable[Names]) -> str:
    """Name a cell by its narrowest sets: by those that hold no other of its sets whole. Empty where it is in none."""
    every = tuple(among)
    narrowest = [name for name in sorted(sets) if not any(_within(other, name, every) for other in sets - {name})]
    return f"networks({', '.join(narrowest)})" if narrowest else ""


def holds(prefixes: tuple[Prefix, ...], address: str) -> bool:
    """Tell whether an address lies in any of these."""
    number = int(ipaddress.ip_address(address))
    return any(first <= number <= last for first, last in _ranges(prefixes, 6 if ":" in address else 4))


def _within(inner: str, outer: str, every: Iterable[Names]) -> bool:
    """Tell whether one set lies in another and does not fill it."""
    found = [sets for sets in every if inner in sets or outer in sets]
    return all(outer in sets for sets in found) and any(inner not in sets for sets in found)


def _steps(versions: Sequence[Prefixes], family: int) -> Iterator[set[tuple[int, str]]]:
    """Yield the (version, set) that hold from each address on at which some set begins or ends."""
    edges: dict[int, Counter[tuple[int, str]]] = {}
    for version, sets in enumerate(versions):
        for name, prefixes in sets.items():
            for first, last in _ranges(prefixes, family):
                edges.setdefault(first, Counter())[version, name] += 1
                edges.setdefault(last + 1, Counter())[version, name] -= 1
    holding: Counter[tuple[int, str]] = Counter()
    for number in sorted(edges):
        holding.update(edges[number])
        yield {key for key, count in holding.items() if count > 0}


@lru_cache(maxsize=1024)
def _ranges(prefixes: tuple[Prefix, ...], family: int) -> tuple[tuple[int, int], ...]:
    """Remembered: the same network sets are asked for again with every plan."""
    networks = (ipaddress.ip_network(each) for each in prefixes if (":" in each) == (family == 6))
    return tuple((int(each.network_address), int(each.broadcast_address)) for each in networks)
