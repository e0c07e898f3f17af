"""The map as a table: the most urgent first, what was not assessed never as nothing."""

import pytest

from stockade.cli.graph import graph_view
from stockade.core.graph.values import NodeKind, Pending
from stockade.core.model.flow import Verdict
from stockade.core.model.ids import Version
from stockade.wire.graph import (
    GraphEdge,
    GraphNode,
    GraphReply,
    ObservedView,
    PermittedView,
    PortView,
    SeenView,
)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def seen(allowed: int, denied: int = 0) -> SeenView:
    return SeenView(allowed + denied, allowed, denied, 0, 0, allowed, 9, 1500, 500, 1.0, 2.0)


def observed(verdict: Verdict, allowed: int, denied: int = 0, ports: int = 1) -> ObservedView:
    told = tuple(PortView(f"tcp/{80 + each}", "", seen(allowed, denied)) for each in range(ports))
    return ObservedView(verdict, seen(allowed, denied), told, ports)


WEB, DB, IDLE = (
    GraphNode(name, NodeKind.WORKLOADS, f"role={name}", (("role", name),), number)
    for name, number in (("web", 3), ("db", 1), ("idle", 7))
)
BUSY = GraphEdge(
    "web", "web", observed(Verdict.ALLOWED, 900, ports=5), PermittedView("any", 6, 6), None, Pending.BLOCKED
)
DENIED = GraphEdge("web", "db", observed(Verdict.DENIED, 0, 2), PermittedView("", 0, 3), PermittedView("tcp/80", 1, 3))
REPLY = GraphReply(
    by=("role",), since=0.0, until=3600.0, of=3600.0, version=Version(4), nodes=(WEB, DB, IDLE), edges=(BUSY, DENIED),
    notes=("2 edges are left out: ask about fewer",), partial_before=60.0,
)  # fmt: skip


def lines(reply: GraphReply, *, drafted: bool = False) -> list[str]:
    return ["".join(span.text for span in each) for each in graph_view(reply, drafted=drafted)]


def test_what_was_denied_comes_first_and_every_strand_is_told() -> None:
    head, titles, first, second, *rest = lines(REPLY)
    assert head == "3 nodes, 2 edges by role; 60 min until 1970-01-01 01:00:00 UTC, version 4"
    assert titles.split() == ["FROM", "TO", "ON", "CONNECTIONS", "DENIED", "BYTES", "PERMITTED"]
    assert first.split() == ["✕", "role=web", "role=db", "tcp/80", "2", "2", "2.0", "kB", "nothing"]
    assert second.split() == [
        "●", "role=web", "role=web", "tcp/80,", "tcp/81,", "tcp/82", "+2", "900", "0", "2.0", "kB", "any",
    ]  # fmt: skip
    assert rest == [
        "",
        "Not seen: role=idle (7)",
        "Before 1970-01-01 00:01:00 UTC not all is kept.",
        "? 2 edges are left out: ask about fewer",
    ]


def test_with_a_draft_what_it_needs_and_decides_is_told() -> None:
    _, titles, first, second, *_ = lines(REPLY, drafted=True)
    assert titles.split()[-2:] == ["NEEDED", "PENDING"]
    assert first.endswith("tcp/80 (1 of 3 pairs)  –")
    assert second.split()[-4:] == ["any", "?", "potentially", "blocked"]
