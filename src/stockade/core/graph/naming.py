"""Nodes of the graph in the words that a user may type: selectors, ends of flows, and an id that stays the same."""

import hashlib

import msgspec

from stockade.core import select
from stockade.core.graph.values import INTERNET, PROCESS, WORKLOAD, Node, NodeKind
from stockade.core.model.labels import NAME
from stockade.core.model.selector import ALL, And, Equal, Has, Not, Selector
from stockade.core.plan.cells import ELSEWHERE

ID_BYTES = 8


class Called(msgspec.Struct, frozen=True):
    """How a node is asked for. ``select``: its workloads; ``end``: an end of flows, more than it unless ``exact``."""

    select: str = ""
    end: str = ""
    exact: bool = True


def node_id(node: Node) -> str:
    """Return an id: the same for the same kind and values, in every process and version of the inventory."""
    return hashlib.blake2b(msgspec.json.encode((node.kind, node.values)), digest_size=ID_BYTES).hexdigest()


def selector_of(node: Node) -> Selector | None:
    """Return the selector of a node's workloads; None where none can say it: networks, and who has no label."""
    if node.kind is not NodeKind.WORKLOADS:
        return None
    terms = tuple(_term(key, value) for key, value in node.values if key != PROCESS)
    return And(terms) if len(terms) > 1 else terms[0] if terms else ALL


def called(node: Node) -> Called:
    """Return how a node is asked for."""
    if node.kind is NodeKind.NETWORK:
        name = node.values[0][1]
        return Called(end="unknown", exact=False) if name in (INTERNET, ELSEWHERE) else Called(end=f"network:{name}")
    selector = selector_of(node)
    if selector is None:
        return Called(end="known", exact=False)
    text = select.text(selector)
    return Called(text, text, all(key != PROCESS for key, _ in node.values))


def _term(key: str, value: str) -> Selector:
    if key == WORKLOAD:
        return Equal(NAME, value)
    return Equal(key, value) if value else Not(Has(key))
