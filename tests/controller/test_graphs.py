"""The map counts what was stored, once each: compared with sums made here, and with what ``stockade flows`` says."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from controlled import FILES, HOST
from served import Served, served
from test_http_api import OWNER, error_of

from stockade.adapters.clickhouse.apart import FlowStoreApart
from stockade.controller.earlier import snapshot_at
from stockade.core.model.flow import Flow, FlowKey, Tally, Verdict
from stockade.core.model.flow_table import FlowBatch, told
from stockade.core.model.ids import Address, RuleId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.wire import Recorded
from stockade.wire.api import ApplyRequest, File, LabelsRequest
from stockade.wire.flows import FlowGroupsReply
from stockade.wire.graph import GraphReply, GraphRequest

pytestmark = pytest.mark.long

WEB, API, DB, OUTSIDE = "10.1.0.11", "10.1.0.12", "10.1.0.13", "198.51.100.7"
OWN = {WEB: "docker:host-a:web-1", API: "docker:host-a:api-1", DB: "docker:host-a:db-1"}
Known = tuple[str, str, int, Verdict, int, int, int]
"""Source, destination, port, what became of it, connections, bytes out, bytes in."""
KNOWN: tuple[Known, ...] = (
    (WEB, API, 8080, Verdict.ALLOWED, 7, 4_000, 90_000),
    (WEB, API, 9090, Verdict.DENIED, 2, 0, 0),
    (API, DB, 5432, Verdict.ALLOWED, 3, 700, 1_100),
    (WEB, DB, 5432, Verdict.DENIED, 5, 0, 0),
    (WEB, OUTSIDE, 443, Verdict.WOULD_DENY, 4, 300, 3_000),
    (OUTSIDE, WEB, 443, Verdict.ALLOWED, 6, 60, 6_000),
)


def batch(known: tuple[Known, ...], number: int = 1, ago: float = 60.0) -> FlowBatch:
    """What one host records of known connections: both its ends of each, and what each carried."""
    now = time.time()
    first = now - ago
    flows = []
    for source, destination, port, verdict, connections, out, back in known:
        one, other = (OWN.get(each) for each in (source, destination))
        ends = [end for end, own in ((Direction.EGRESS, one), (Direction.INGRESS, other)) if own]
        judging = ends[:1] if verdict is Verdict.DENIED else ends
        flows += [
            _flow(source, destination, port, end, verdict, RuleId("default"), connections, first) for end in judging
        ]
        if out or back:
            flows.append(
                _flow(source, destination, port, ends[0], Verdict.CARRIED, RuleId(""), connections, first, out, back)
            )
    return FlowBatch(HOST, "stream", number, first, now, now, told(flows))


def _flow(source: str, destination: str, port: int, end: Direction, verdict: Verdict, rule: RuleId, connections: int,
          first: float, out: int = 0, back: int = 0) -> Flow:  # fmt: skip
    own = tuple(WorkloadId(OWN[each]) if each in OWN else None for each in (source, destination))
    key = FlowKey(Address(source), Address(destination), 6, port, end, verdict, rule, *own)
    carried = verdict is Verdict.CARRIED
    tally = Tally(first, first + 1, 0 if carried else connections, 2 * connections, out, back, connections * carried)
    return Flow(key, tally)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("graphs")
    with closing(FlowStoreApart(folder / "flows")) as flows, served(folder, OWNER, flows) as running:
        running.furnish()
        assert running.send("POST", "/v1/apply", ApplyRequest(files=FILES, yes=True, wait=0)).status_code == 200
        assert running.say(Recorded(batch(KNOWN))).status_code == 200
        yield running


def graph(server: Served, **asked: Any) -> GraphReply:
    reply = server.get("/v1/graph", **asked)
    assert reply.status_code == 200, reply.text
    return msgspec.json.decode(reply.content, type=GraphReply)


def role(address: str) -> str:
    return {WEB: "web", API: "api", DB: "db"}.get(address, "")


def by_role(reply: GraphReply) -> dict[tuple[str, str], Any]:
    names = {each.id: dict(each.values).get("role", "") for each in reply.nodes}
    return {(names[each.source], names[each.destination]): each for each in reply.edges}


def test_every_edge_counts_what_was_recorded_once(server: Served) -> None:
    found = by_role(graph(server, by="role"))
    counts: Counter[tuple[str, str, str]] = Counter()
    for source, destination, _, verdict, connections, out, back in KNOWN:
        ends = (role(source), role(destination))
        counts[*ends, verdict.value] += connections
        counts[*ends, "out"] += out
        counts[*ends, "in"] += back
        counts[*ends, "connections"] += connections
    told: Counter[tuple[str, str, str]] = Counter()
    for ends, edge in found.items():
        seen = edge.observed.seen
        told += Counter(
            {
                (*ends, "connections"): seen.connections,
                (*ends, "allowed"): seen.allowed,
                (*ends, "denied"): seen.denied,
                (*ends, "would be denied"): seen.would_deny,
                (*ends, "out"): seen.bytes_out,
                (*ends, "in"): seen.bytes_in,
            }
        )
    assert told == +counts


def test_its_numbers_are_those_of_flows_in_the_same_span(server: Served) -> None:
    reply = graph(server, by="role")
    span = {"since": reply.since, "until": reply.until}
    groups = server.get("/v1/flows/groups", by="source.role,destination.role,end,verdict,rule", limit=1000, **span)
    table = msgspec.json.decode(groups.content, type=FlowGroupsReply)
    said: Counter[tuple[str, ...]] = Counter()
    carried: Counter[tuple[str, str]] = Counter()
    for each in table.groups:
        one, other, end, verdict, rule = (str(value or "") for value in each.values)
        if verdict == "carried":
            carried[one, other] += each.bytes_out + each.bytes_in
        else:
            said[one, other, end, verdict, rule] += each.connections
    edges = by_role(reply)
    assert said == Counter(
        {
            (*ends, one.end.value, one.verdict.value, one.by.rule): one.connections
            for ends, edge in edges.items()
            for one in edge.observed.said
        }
    )
    volume = {ends: edge.observed.seen.bytes_out + edge.observed.seen.bytes_in for ends, edge in edges.items()}
    assert carried == +Counter(volume)
    assert reply.total is not None
    assert reply.total.connections == sum(edge.observed.seen.connections for edge in edges.values())


def test_the_flows_behind_an_edge_are_at_its_address(server: Served) -> None:
    edge = by_role(graph(server, by="app,role"))["web", "db"]
    flows = server.get(edge.flows).json()["flows"]
    assert {(each["source"]["name"], each["destination"]["name"]) for each in flows} == {("web-1", "db-1")}
    assert sum(each["connections"] for each in flows) == 5


def test_policy_is_a_strand_and_a_draft_another(server: Served) -> None:
    edges = by_role(graph(server, by="role", unseen="1"))
    assert edges["web", "db"].permitted.pairs == 0
    assert edges["web", "api"].permitted.on == "tcp/8080"
    (rule,) = edges["web", "api"].permitted.rules
    assert (rule.rule, rule.where.file, rule.where.line) == ("shop/web-to-api", "shop.yaml", 7)
    wider = (FILES[0], File("shop.yaml", FILES[1].text.replace("from: role = api, to", "from: role = web, to")))
    reply = server.send("POST", "/v1/graph?by=role", GraphRequest(files=wider))
    drafted = by_role(msgspec.json.decode(reply.content, type=GraphReply))
    assert drafted["web", "db"].needed.on == "tcp/5432"
    assert drafted["api", "db"].pending.value == "potentially blocked"
    assert drafted["web", "api"].pending.value == "allowed"
    assert drafted["web", "db"].pending.value == "nothing passed"


def test_a_draft_that_does_not_parse_is_refused(server: Served) -> None:
    reply = server.send("POST", "/v1/graph", GraphRequest(files=(File("x.yaml", "kind: Nothing"),)))
    assert reply.status_code == 422
    assert error_of(reply).problems


@pytest.mark.parametrize(
    ("asked", "roles"),
    [
        ({"from": "role = web"}, {("web", "api"), ("web", "db"), ("web", "")}),
        ({"to": "role = db"}, {("web", "db"), ("api", "db")}),
        ({"from": "web-1", "to": "db-1"}, {("web", "db")}),
        ({"select": "role = api"}, {("web", "api"), ("api", "db")}),
        ({"select": "role = api", "from": "role = web"}, {("web", "api")}),
        ({"verdict": "denied"}, {("web", "api"), ("web", "db")}),
        ({"verdict": "would-be-denied"}, {("web", "")}),
    ],
)
def test_what_is_asked_for_is_what_comes(server: Served, asked: dict[str, str], roles: set[tuple[str, str]]) -> None:
    assert set(by_role(graph(server, by="role", **asked))) == roles


@pytest.mark.parametrize(
    "asked",
    [
        {"by": "no such key!"}, {"select": "role ~ x"}, {"verdict": "maybe"}, {"since": 20, "until": 10},
        {"until": 5, "at": 5}, {"from": "(("},
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(server: Served, asked: dict[str, Any]) -> None:
    reply = server.get("/v1/graph", **asked)
    assert reply.status_code in (400, 422), reply.text
    assert error_of(reply).error


def test_what_has_no_room_is_counted_and_what_is_denied_comes_first(server: Served) -> None:
    reply = graph(server, by="role", limit=3)
    assert set(by_role(reply)) == {("web", "db")}
    assert reply.left.edges == 4
    assert reply.left.connections == 27 - 5
    assert reply.total is not None
    assert reply.total.connections == 27
    assert any("left out" in each for each in reply.notes)
    assert len(reply.nodes) + len(reply.edges) <= 3


def test_every_level_of_zoom_has_the_same_sum(server: Served) -> None:
    totals = {by: graph(server, by=by).total for by in ("app", "app,role", "workload", "app,role,workload,process")}
    assert len({(each.connections, each.bytes_out) for each in totals.values() if each}) == 1


def test_the_inventory_is_that_of_the_time_asked(server: Served) -> None:
    before = time.time()
    time.sleep(0.05)
    assert server.send("PUT", "/v1/labels/web-1", LabelsRequest(labels={"role": "front"})).status_code == 200
    now = by_role(graph(server, by="role"))
    then = by_role(graph(server, by="role", at=before))
    assert ("front", "db") in now
    assert ("web", "db") in then
    assert ("front", "db") not in then
    controller = server.installation.controller
    asked = snapshot_at(controller.store, controller.snapshot, before)
    assert asked.but == ""
    assert asked.snapshot.revision < controller.snapshot.revision
    assert snapshot_at(controller.store, controller.snapshot, time.time()).snapshot is controller.snapshot


def test_without_a_flow_store_there_are_still_nodes_and_it_is_said(tmp_path: Path) -> None:
    with served(tmp_path, OWNER) as running:
        running.furnish()
        reply = graph(running, by="role")
    assert {each.text for each in reply.nodes} >= {"role=web", "role=db"}
    assert any("no flows are kept" in each for each in reply.notes)
    assert reply.edges == ()


def test_where_too_much_lies_between_the_policy_of_then_judges_the_inventory_of_now(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.controller.earlier.MOST", 1)
    controller = server.installation.controller
    before = time.time()
    time.sleep(0.05)
    wider = (FILES[0], File("shop.yaml", FILES[1].text.replace("tcp/8080", "tcp/8081")))
    assert server.send("POST", "/v1/apply", ApplyRequest(files=wider, yes=True, wait=0)).status_code == 200
    found = snapshot_at(controller.store, controller.snapshot, before)
    assert "those of now" in found.but
    assert found.snapshot.version == controller.snapshot.version - 1
    assert found.snapshot.workloads == controller.snapshot.workloads
    assert any("those of now" in each for each in graph(server, by="role", at=before).notes)


def test_what_was_drawn_before_is_drawn_again_with_what_came_since(tmp_path: Path) -> None:
    with closing(FlowStoreApart(tmp_path / "flows")) as flows, served(tmp_path, OWNER, flows) as running:
        running.furnish()
        assert running.send("POST", "/v1/apply", ApplyRequest(files=FILES, yes=True, wait=0)).status_code == 200
        since = time.time() - 300
        for number, known in enumerate((KNOWN, KNOWN[2:4], (), KNOWN[:1], KNOWN[4:]), 1):
            if known:
                assert running.say(Recorded(batch(known, number))).status_code == 200
            span = {"by": "role", "since": since, "at": time.time() + 60}
            before, first = (graph(running, **span, limit=limit) for limit in (2000, 2000 - number))  # asked first now
            assert before.edges == first.edges
            assert before.nodes == first.nodes
            assert before.total == first.total
            assert before.total is not None
