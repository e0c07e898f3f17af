"""Directed graphs as bitmaps: what is reached from where, paths, and the steps that every path shares.

Closed by its strongly connected components, whose members reach just the same; never by squaring a matrix.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import msgspec
from pyroaring import BitMap

from stockade.core.graph.values import Edge, Node


class Choke(msgspec.Struct, frozen=True, order=True):
    """A node or an edge that every path of some pairs shares: without it, ``cuts`` of ``of`` connected pairs are not.

    ``destination`` None: ``source`` is a node that stands between; else the edge of the two.
    """

    cuts: int
    of: int
    source: Node
    destination: Node | None = None


class Directed:
    """Nodes in order, and after each the nodes that one step leads to."""

    def __init__(self, nodes: Sequence[Node], after: Mapping[Node, Iterable[Node]]) -> None:
        self.nodes = tuple(sorted(nodes))
        self.number = {node: number for number, node in enumerate(self.nodes)}
        self.after = [BitMap(self.number[each] for each in after.get(node, ())) for node in self.nodes]

    @cached_property
    def before(self) -> list[BitMap]:
        """Before each the nodes that lead to it in one step."""
        found = [BitMap() for _ in self.nodes]
        for number, after in enumerate(self.after):
            for each in after:
                found[each].add(number)
        return found

    def reached(self, start: Node, hops: int | None = None, *, back: bool = False) -> dict[Node, int]:
        """Return the nodes that at most so many steps lead to (from, going ``back``), each with its steps."""
        steps, found = self.before if back else self.after, {}
        frontier = BitMap([self.number[start]])
        visited, step = frontier.copy(), 0
        while frontier and (hops is None or step < hops):
            step += 1
            frontier = BitMap.union(*[steps[each] for each in frontier], BitMap()) - visited
            visited |= frontier
            found.update({self.nodes[each]: step for each in frontier})
        return found

    def path(self, start: Node, goal: Node) -> tuple[Node, ...]:
        """Return a shortest path, both its ends included; empty where there is none. The first in order, of several."""
        levels = self.reached(goal, back=True)
        if start == goal or start not in levels:
            return (start,) if start == goal else ()
        here, found = start, [start]
        while here != goal:
            steps = (self.nodes[each] for each in self.after[self.number[here]])
            here = next(each for each in steps if each == goal or levels.get(each) == levels[here] - 1)
            found.append(here)
        return tuple(found)

    def closure(self) -> list[BitMap]:
        """Return the nodes that each reaches over any number of steps; itself where it lies on a circle."""
        reach: dict[int, BitMap] = {}
        of: dict[int, int] = {}
        for number, members in enumerate(self.components()):  # whatever it leads to comes before it
            of.update(dict.fromkeys(members, number))
            beyond = BitMap.union(*[self.after[each] for each in members], BitMap())
            onward = {of[each] for each in beyond} - {number}
            reach[number] = BitMap.union(beyond, *[reach[each] for each in onward])
            if len(members) > 1:
                reach[number] |= BitMap(members)
        return [reach[of[number]] for number in range(len(self.nodes))]

    def components(self) -> Iterator[list[int]]:
        """Yield the strongly connected components, each before all that lead to it (Tarjan, 1972)."""
        order: dict[int, int] = {}
        low: dict[int, int] = {}
        stack: list[int] = []
        on_stack: set[int] = set()
        for root in range(len(self.nodes)):
            if root in order:
                continue
            work = [(root, iter(self.after[root]))]
            order[root] = low[root] = len(order)
            stack.append(root)
            on_stack.add(root)
            while work:
                node, steps = work[-1]
                fresh = None
                for each in steps:
                    if each not in order:
                        fresh = each
                        break
                    if each in on_stack:
                        low[node] = min(low[node], order[each])
                if fresh is not None:
                    order[fresh] = low[fresh] = len(order)
                    stack.append(fresh)
                    on_stack.add(fresh)
                    work.append((fresh, iter(self.after[fresh])))
                    continue
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    members = stack[stack.index(node) :] if stack[-1] != node else [node]
                    del stack[len(stack) - len(members) :]
                    on_stack.difference_update(members)
                    yield members

    def chokes(self, sources: Iterable[Node], targets: Iterable[Node], most: int = 10) -> tuple[Choke, ...]:
        """Return the nodes and edges whose loss cuts most pairs of a source and a target, the worst first.

        A pair's own ends are none of its chokes.
        """
        goals = BitMap(self.number[each] for each in targets)
        cuts: dict[tuple[int, int], int] = {}
        connected = 0
        for source in sorted({self.number[each] for each in sources}):
            tree = _Dominators(source, self.after)
            connected += len((goals & tree.reached) - BitMap([source]))
            for what, count in tree.cuts(goals):
                cuts[what] = cuts.get(what, 0) + count
        worst = sorted(cuts.items(), key=lambda each: (-each[1], each[0]))[:most]
        return tuple(self._choke(what, count, connected) for what, count in worst)

    def _choke(self, what: tuple[int, int], cuts: int, of: int) -> Choke:
        one, other = what
        return Choke(cuts, of, self.nodes[one], self.nodes[other] if other != one else None)


class _Dominators:
    """What every path from one node shares, as a tree (Cooper, Harvey and Kennedy, 2001)."""

    def __init__(self, source: int, after: Sequence[BitMap]) -> None:
        self._source, self._order = source, _postorder(source, after)
        self._rank = {node: rank for rank, node in enumerate(self._order)}
        self.reached = BitMap(self._order)
        self._before: dict[int, list[int]] = {node: [] for node in self._order}
        for node in self._order:
            for each in after[node]:
                self._before[each].append(node)
        self._above = self._tree()

    def cuts(self, goals: BitMap) -> Iterator[tuple[tuple[int, int], int]]:
        """Yield each node (twice) and edge with the number of goals that are lost without it."""
        below = {node: int(node in goals) for node in self._order}
        for node in self._order:  # what is below comes first
            if node != self._source:
                below[self._above[node]] += below[node]
        inside = self._intervals()
        for node in self._order:
            if node == self._source:
                continue
            own = below[node] - int(node in goals)
            if own:
                yield (node, node), own
            above = self._above[node]
            if below[node] and all(each == above or _holds(inside, node, each) for each in self._before[node]):
                yield (above, node), below[node]

    def _tree(self) -> dict[int, int]:
        above = {self._source: self._source}
        changed = True
        while changed:
            changed = False
            for node in reversed(self._order[:-1]):
                found = None
                for each in self._before[node]:
                    if each in above:
                        found = each if found is None else self._met(above, each, found)
                if found is not None and above.get(node) != found:
                    above[node], changed = found, True
        return above

    def _met(self, above: Mapping[int, int], one: int, other: int) -> int:
        rank = self._rank
        while one != other:
            while rank[one] < rank[other]:
                one = above[one]
            while rank[other] < rank[one]:
                other = above[other]
        return one

    def _intervals(self) -> dict[int, tuple[int, int]]:
        """Number the tree so that whoever is below lies within."""
        children: dict[int, list[int]] = {}
        for node, above in self._above.items():
            if node != above:
                children.setdefault(above, []).append(node)
        found: dict[int, tuple[int, int]] = {}
        clock, work = 0, [(self._source, False)]
        entered: dict[int, int] = {}
        while work:
            node, done = work.pop()
            if done:
                found[node] = (entered[node], clock)
                continue
            clock += 1
            entered[node] = clock
            work.append((node, True))
            work += [(each, False) for each in children.get(node, ())]
        return found


def _holds(inside: Mapping[int, tuple[int, int]], above: int, node: int) -> bool:
    return inside[above][0] <= inside[node][0] <= inside[above][1]


def _postorder(source: int, after: Sequence[BitMap]) -> list[int]:
    found: list[int] = []
    seen = {source}
    work = [(source, iter(after[source]))]
    while work:
        node, steps = work[-1]
        fresh = next((each for each in steps if each not in seen), None)
        if fresh is None:
            found.append(node)
            work.pop()
        else:
            seen.add(fresh)
            work.append((fresh, iter(after[fresh])))
    return found


def permitted_graph(edges: Iterable[Edge]) -> Directed:
    """Return the nodes of some edges, with a step wherever something is permitted between two of their ends."""
    return _of(edges, lambda edge: edge.permitted is not None and edge.permitted.pairs > 0)


def observed_graph(edges: Iterable[Edge]) -> Directed:
    """Return the nodes of some edges, with a step wherever a connection passed."""
    return _of(edges, lambda edge: edge.observed is not None and edge.observed.seen.passed > 0)


def _of(edges: Iterable[Edge], leads: Callable[[Edge], bool]) -> Directed:
    every = list(edges)
    after: dict[Node, list[Node]] = {}
    for each in every:
        if leads(each):
            after.setdefault(each.source, []).append(each.destination)
    return Directed(sorted({node for each in every for node in (each.source, each.destination)}), after)
