"""What was learnt, in cells: one kind of source, one kind of destination, one port; and where kinds are too coarse.

Kinds are classes of workloads and network sets. Where something that is left out lies in the same cell as something
that was learnt, that cell is told apart by single workloads and addresses. Where not even these differ, it is left out.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from stockade.core.graph.values import Traffic
from stockade.core.model.flow import FlowEnd
from stockade.core.suggest.networks import Sets
from stockade.core.suggest.people import People, Who
from stockade.core.suggest.sifting import Sifted
from stockade.core.suggest.values import Reason, Refused


class Cell(NamedTuple):
    """One kind of connection."""

    source: Who
    destination: Who
    protocol: int
    port: int


class Cells(NamedTuple):
    """What was learnt, by cell; the cells in which something lies that is left out; what had to be left out besides."""

    learnt: dict[Cell, list[Traffic]]
    closed: frozenset[Cell]
    alike: tuple[Refused, ...]


def cells(sifted: Sifted, people: People, sets: Sets) -> Cells:
    """Return what was learnt in the coarsest cells that hold nothing of what is left out."""
    closed = frozenset(cell for each in sifted.refused for cell in _touched(each.traffic, people, sets))
    learnt: dict[Cell, list[Traffic]] = {}
    alike = []
    for each in sifted.learnt:
        open_ones = [cell for cell in _every_size(each, people, sets) if cell not in closed]
        if open_ones:
            learnt.setdefault(open_ones[0], []).append(each)
        else:
            alike.append(Refused(each, Reason.ALIKE))
    return Cells(learnt, closed, tuple(alike))


def _every_size(traffic: Traffic, people: People, sets: Sets) -> Iterator[Cell]:
    """Yield the cells that some traffic lies in, the coarsest first; none where an end is nobody's."""
    sources, destinations = (_whos(end, people, sets)[:2] for end in (traffic.source, traffic.destination))
    for source, destination in ((0, 0), (1, 0), (0, 1), (1, 1)):
        if sources and destinations:
            yield Cell(sources[source], destinations[destination], traffic.protocol, traffic.port)


def _touched(traffic: Traffic, people: People, sets: Sets) -> Iterator[Cell]:
    """Yield every cell that some traffic lies in: wider network sets hold its addresses too."""
    ends = (_whos(end, people, sets) for end in (traffic.source, traffic.destination))
    for source, destination in product(*ends):
        yield Cell(source, destination, traffic.protocol, traffic.port)


def _whos(end: FlowEnd, people: People, sets: Sets) -> tuple[Who, ...]:
    """Return how rules may name an end, as they should at first, exactly next; empty where it is nobody's."""
    workload = people.workload(end)
    if workload is None:
        found = sets.all_holding(end)
        return tuple(Who(network=name, address=address) for name in found for address in ("", end.address))
    if not workload.known:
        return ()
    who = people.who(workload)
    return who, who._replace(name=workload.name)
