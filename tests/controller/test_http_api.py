"""Every route over the real socket: its reply is what the OpenAPI document says, its refusals are values."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
from controlled import FILES, HOST, SHOP, container
from openapi_spec_validator import OpenAPIV31SpecValidator
from served import Served, served

from stockade.adapters.clickhouse.apart import FlowStoreApart
from stockade.controller.http import call
from stockade.controller.http.openapi import document
from stockade.controller.http.peers import Access
from stockade.core.model.event import WorkloadGone
from stockade.core.model.finding import Finding, Severity
from stockade.core.model.flow import Flow, FlowKey, Tally, Verdict
from stockade.core.model.flow_table import FlowBatch, told
from stockade.core.model.ids import Address, CheckId, RuleId, Version, WorkloadId
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Mode
from stockade.wire import BirthRecord, Counters, Findings, Outcome, Recorded, RuleCount
from stockade.wire.api import (
    AcceptRequest,
    ApplyRequest,
    ConfirmRequest,
    ConsoleLinkRequest,
    ErrorReply,
    File,
    LabelsRequest,
    ModeRequest,
    OffRequest,
    PlanRequest,
    ReopenRequest,
    RollbackRequest,
    WatchLine,
)
from stockade.wire.graph import GraphRequest
from stockade.wire.routes import ROUTES, route
from stockade.wire.suggestions import SuggestRequest

OWNER = Access(os.geteuid())
ODD = Finding(CheckId("routing-rules"), "IPv4 100", Severity.LOW, "table 5", "remove it", 5.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, OWNER) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for tests that change nothing."""
    with served(tmp_path_factory.mktemp("shared"), OWNER) as running:
        yield running


def validated(name: str, reply: httpx.Response, media: str = "application/json") -> Any:
    """Hold a reply to the document: its status must be listed, its body must fit the schema of that status."""
    found = route(name)
    described = document()
    answer = described["paths"][found.path][found.method.value.lower()]["responses"][str(reply.status_code)]
    assert reply.headers["content-type"].startswith(media), reply.headers
    schema = {**answer["content"][media]["schema"], "components": described["components"]}
    bodies = [json.loads(line) for line in reply.text.splitlines()] if media.endswith("ndjson") else [reply.json()]
    for body in bodies:
        jsonschema.Draft202012Validator(schema).validate(body)
    return bodies if media.endswith("ndjson") else bodies[0]


def error_of(reply: httpx.Response) -> ErrorReply:
    return msgspec.json.decode(reply.content, type=ErrorReply)


def test_the_document_is_valid_and_served(shared: Served) -> None:
    reply = shared.get("/openapi.json")
    OpenAPIV31SpecValidator(reply.json()).validate()
    assert reply.json() == json.loads(msgspec.json.encode(document()))


@pytest.mark.long
def test_every_route_answers_as_documented(tmp_path: Path) -> None:
    with closing(FlowStoreApart(tmp_path / "flows")) as flows, served(tmp_path, OWNER, flows) as server:
        server.furnish()
        assert server.say(Recorded(batch())).status_code == 200
        answers = dict(_tour(server))
    assert set(answers) == {each.name for each in ROUTES if each.reply is not None}
    for name, reply in answers.items():
        assert reply.status_code == 200, (name, reply.text)
        validated(name, reply)


def test_without_a_flow_store_flows_are_refused_and_that_is_said(shared: Served) -> None:
    for path in ("/v1/flows", "/v1/flows/groups", "/v1/flows/store"):
        reply = shared.get(path)
        assert reply.status_code == 404
        assert "docs/settings.md" in error_of(reply).remedy
    assert "keeps no flows" in error_of(shared.say(Recorded(batch()))).error


def batch() -> FlowBatch:
    """A flow between two of the tiers, of just now."""
    key = FlowKey(Address("10.0.0.1"), Address("10.0.0.2"), 6, 5432, Direction.INGRESS, Verdict.ALLOWED, RuleId("a/b"))
    now = time.time()
    return FlowBatch(HOST, "stream", 1, now - 2, now, now, told([Flow(key, Tally(now - 2, now, 1, 2, 3))]))


def _tour(server: Served) -> Iterator[tuple[str, httpx.Response]]:
    """Call each route once, in the order of a day's work."""
    yield "status", server.get("/v1/status")
    yield "workloads", server.get("/v1/workloads", select="app = shop")
    yield "labels", server.get("/v1/labels")
    yield "set-labels", server.send("PUT", "/v1/labels/web-1", LabelsRequest(labels={"env": "prod"}))
    yield "plan", server.send("POST", "/v1/plan", PlanRequest(files=FILES))
    yield "apply", server.send("POST", "/v1/apply", ApplyRequest(files=FILES, yes=True, confirm=600, wait=0))
    yield "confirm", server.send("POST", "/v1/confirm", ConfirmRequest())
    yield "mode", server.send("POST", "/v1/mode", ModeRequest(select="role = db", mode=Mode.IDLE, wait=0))
    yield "rollback", server.send("POST", "/v1/rollback", RollbackRequest(version=Version(1), wait=0))
    yield "history", server.get("/v1/history")
    yield "policy", server.get("/v1/policy/1")
    yield "flows", server.get("/v1/flows", on="postgres", verdict="allowed")
    yield "flow-groups", server.get("/v1/flows/groups", by="source.role,rule,minute", order="bytes")
    yield "flow-store", server.get("/v1/flows/store")
    yield "graph", server.get("/v1/graph", by="app,role,workload", unseen="1")
    yield "draft-graph", server.send("POST", "/v1/graph", GraphRequest(files=FILES))
    yield "suggest", server.send("POST", "/v1/suggest", SuggestRequest(name="x", selector="app = shop", since=1.0))
    yield "explain", server.get("/v1/explain", source="web-1", destination="db-1", on="postgres")
    yield "reach", server.get("/v1/reach", of="db-1")
    yield "rules", server.get("/v1/rules/local")
    born = BirthRecord(WorkloadId("docker:host-a:web-1"), "web-1", created=1.0, isolated=1.0, allowed=1.5)
    version = server.get("/v1/status").json()
    yield "report", server.say(Outcome(HOST, version["revision"], version["version"], "f", "", (born,)))
    yield "assignment", server.get("/v1/agent/assignment", host=HOST)
    yield "births", server.get("/v1/births", last=3)
    yield "events", server.get("/v1/events", since=2)
    yield "audit", server.get("/v1/audit", last=5)
    yield "workload", server.get("/v1/workloads/web-1")
    yield "completeness", server.get("/v1/completeness")
    yield "doctor", server.get("/v1/doctor")
    server.say(Findings(HOST, (ODD,)))
    yield "findings", server.get("/v1/findings")
    odd = server.get("/v1/findings").json()["findings"][0]["id"]
    yield "accept-finding", server.send("POST", "/v1/findings/accept", AcceptRequest(id=odd, why="the VPN's"))
    yield "reopen-finding", server.send("POST", "/v1/findings/reopen", ReopenRequest(id=odd))
    yield "console-link", server.send("POST", "/v1/console/link", ConsoleLinkRequest())
    yield "off", server.send("POST", "/v1/off", OffRequest(wait=0))


def test_status_says_who_asks_and_what_is_in_force(server: Served) -> None:
    server.furnish()
    status = server.get("/v1/status").json()
    assert (status["you"]["uid"], status["you"]["role"]) == (os.geteuid(), 2)
    (host,) = status["hosts"]
    assert (host["wanted"], host["realised"], host["births"], host["workloads"]) == (0, 0, "pass", 4)
    assert status["settings"] == [{"name": "state", "value": "/var/lib/stockade", "origin": "default"}]
    assert dict(map(tuple, status["modes"])) == {"visibility": 4}


def test_apply_waits_until_it_is_in_force(server: Served) -> None:
    server.furnish()
    fingerprint = server.get("/v1/agent/assignment", host=HOST).json()["assignment"]["intent"]["fingerprint"]
    agent = threading.Thread(target=server.obey, args=(fingerprint,))
    agent.start()
    reply = server.send("POST", "/v1/apply", ApplyRequest(files=FILES, yes=True, wait=30)).json()
    agent.join(30)
    assert (reply["realised"], reply["waiting"]) == (True, [])
    late = server.send("POST", "/v1/mode", ModeRequest(select="all", mode=Mode.IDLE, wait=0.05)).json()
    assert (late["realised"], late["waiting"]) == (False, ["host-a"])


def test_explain_over_the_socket(server: Served) -> None:
    server.furnish()
    server.send("POST", "/v1/apply", ApplyRequest(files=FILES, yes=True, wait=0))
    reply = server.get("/v1/explain", source="web-1", destination="db-1", on="tcp/5432").json()
    assert reply["explanation"]["allowed"] is False
    assert reply["realised"] == [["host-a", 0]]
    allowed = server.get("/v1/explain", source="web-1", destination="api-1", on="tcp/8080").json()["explanation"]
    assert allowed["allowed"] is True
    assert {end["rule"] for end in allowed["ends"]} == {"shop/web-to-api"}


def test_rules_name_their_policy_lines_and_counts(server: Served) -> None:
    server.furnish()
    server.send("POST", "/v1/apply", ApplyRequest(files=FILES, yes=True, wait=0))
    counted = (RuleCount(RuleId("shop/web-to-api"), "allow", 7, 420),)
    server.say(Counters(HOST, counted, (("nflog", 3),), 10, 100))
    reply = server.get("/v1/rules/host-a").json()
    ours = [each for each in reply["rules"] if each["rule"] == "shop/web-to-api"]
    assert ours
    assert all((each["where"]["file"], each["where"]["line"], each["packets"]) == ("shop.yaml", 7, 7) for each in ours)
    assert reply["text"].startswith("table inet stockade {")
    assert all(each["text"] in reply["text"] for each in reply["rules"])


def test_metrics_are_what_prometheus_reads(server: Served) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    server.furnish()
    server.send("POST", "/v1/apply", ApplyRequest(files=FILES, yes=True, wait=0))
    counted = (RuleCount(RuleId("shop/web-to-api"), "allow", 7, 420),)
    born = BirthRecord(
        WorkloadId("docker:host-a:web-1"), "web-1", created=1.0, isolated=1.0, allowed=1.03, runtime="docker"
    )
    server.say(Counters(HOST, counted, (("nflog", 3),), 10, 100))
    server.say(Outcome(HOST, 0, Version(0), "old", "", (born, born)))  # type: ignore[arg-type]
    reply = server.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }
    host = ("host", "host-a")
    assert samples["stockade_policy_version",] == 1
    assert samples["stockade_wanted_version", host] == 1
    assert samples["stockade_realised_version", host] == 0
    assert samples["stockade_rule_packets_total", host, ("rule", "shop/web-to-api"), ("verdict", "allow")] == 7
    assert samples["stockade_lost_events_total", host, ("source", "nflog")] == 3
    assert samples["stockade_conntrack_entries", host] == 10
    assert samples["stockade_conntrack_limit", host] == 100
    assert samples["stockade_births_total", ("runtime", "docker")] == 1
    assert samples["stockade_births_leaked_total", ("runtime", "docker")] == 0
    assert samples["stockade_birth_dead_seconds_bucket", ("le", "0.02"), ("runtime", "docker")] == 0
    assert samples["stockade_birth_dead_seconds_bucket", ("le", "0.05"), ("runtime", "docker")] == 1
    assert samples["stockade_workloads", ("known", "yes")] == 4


def test_the_watch_lists_then_follows_then_ends(tmp_path: Path) -> None:
    lines: list[Any] = []
    in_sync, all_seen = threading.Event(), threading.Event()

    def watch(server: Served) -> None:
        transport = httpx.HTTPTransport(uds=str(server.socket))
        with (
            httpx.Client(transport=transport, base_url="http://stockade", timeout=30) as client,
            client.stream("GET", "/v1/workloads", params={"watch": "1"}) as stream,
        ):
            assert stream.headers["content-type"] == "application/x-ndjson"
            for text in stream.iter_lines():
                lines.append(msgspec.json.decode(text, type=WatchLine))  # type: ignore[arg-type]
                if type(lines[-1]).__name__ == "InSync":
                    in_sync.set()
                if type(lines[-1]).__name__ == "Gone":
                    all_seen.set()

    with served(tmp_path, OWNER) as server:
        server.furnish()
        watcher = threading.Thread(target=watch, args=(server,))
        watcher.start()
        assert in_sync.wait(20)
        server.report(2, container("web-2", 21, "web"))
        server.send("PUT", "/v1/labels/web-2", LabelsRequest(labels={"loc": "north"}))
        server.report(3, WorkloadGone(WorkloadId("docker:host-a:web-2")))
        assert all_seen.wait(20)
    watcher.join(20)
    assert not watcher.is_alive(), "the stream ends with the server"
    told = [(type(each).__name__, getattr(each, "name", "") or getattr(each, "workload", each)) for each in lines]
    assert [name for name, _ in told[:5]] == ["Seen"] * 4 + ["InSync"]
    assert told[-1] == ("Gone", "web-2")
    assert lines[-1].id == "docker:host-a:web-2"


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/nothing", 404, "no such path"),
        ("/v1/apply", 405, "does not take that method"),
        ("/v1/explain?source=a&destination=b", 400, '"on" is missing'),
        ("/v1/explain?source=a&destination=b&on=tcp/1", 422, "no workload"),
        ("/v1/explain?source=10.1.0.1&destination=10.1.0.2&on=tcpp/1", 422, "tcp"),
        ("/v1/explain?source=10.1.0.1&destination=10.1.0.2&on=tcp/1-9", 422, "more than one port"),
        ("/v1/history?limit=many", 400, '"limit" is "many", which is no int'),
        ("/v1/history?limit=-1", 400, "out of bounds"),
        ("/v1/audit?last=1e99", 400, '"last"'),
        ("/v1/agent/assignment?host=a&wait=nan", 400, "out of bounds"),
        ("/v1/status?verbose=1", 400, 'unknown parameter "verbose"'),
        ("/v1/policy/latest", 400, '"latest" is no version'),
        ("/v1/policy/99", 404, 'no version "99"'),
        ("/v1/rules/host-z", 404, 'no host "host-z"'),
        ("/v1/workloads?select=a%20%3D%3D%20b", 422, "=="),
    ],
)
def test_what_cannot_be_asked_is_said_in_words(shared: Served, path: str, status: int, says: str) -> None:
    reply = shared.get(path)
    assert reply.status_code == status, reply.text
    error = error_of(reply)
    assert says in error.error
    assert error.kept
    assert "Traceback" not in reply.text


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 400, "not a ApplyRequest"),
        (b"{", 400, "not a ApplyRequest"),
        (b'{"files": "all of them"}', 400, "$.files"),
        (b'{"schema": 2, "files": []}', 400, "$.schema"),
        (b"\xff\xfe", 400, "not a ApplyRequest"),
        (b'{"files": []}', 400, "apply needs the id of the plan"),
        (b'{"files": [{"name": "x.yaml", "text": "kind: ["}], "yes": true}', 422, "1 problem"),
    ],
)
def test_a_body_that_is_none_is_said_in_words(shared: Served, content: bytes, status: int, says: str) -> None:
    reply = shared.http.post("/v1/apply", content=content)
    assert reply.status_code == status, reply.text
    assert says in error_of(reply).error
    validated("apply", reply)


def test_refused_documents_come_with_their_places(shared: Served) -> None:
    broken = File("shop.yaml", SHOP.replace("[postgres]", "[postgress]"))
    reply = shared.send("POST", "/v1/apply", ApplyRequest(files=(broken,), yes=True))
    (problem,) = error_of(reply).problems
    assert (problem.where.file, problem.where.line, problem.nearest) == ("shop.yaml", 10, "postgres")


def test_a_request_has_a_bound(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "LARGEST_BODY", 1000)
    reply = shared.http.post("/v1/plan", content=b" " * 2000)
    assert reply.status_code == 413
    assert error_of(reply).remedy


def test_a_store_that_fails_is_the_servers_trouble(server: Served) -> None:
    import sqlite3

    server.furnish()
    with sqlite3.connect(server.folder / "state.db") as raw:
        raw.execute("create trigger broken before insert on events begin select raise(abort, 'full'); end")
    reply = server.send("POST", "/v1/apply", ApplyRequest(files=FILES, yes=True))
    assert reply.status_code == 503
    assert "stay as they were" in error_of(reply).kept
    assert server.get("/v1/status").json()["version"] == 0


def test_a_workloads_id_may_hold_slashes(server: Served) -> None:
    server.furnish()
    server.report(2, container("a/b", 21, "web"))
    reply = server.http.put("/v1/labels/docker%3Ahost-a%3Aa%2Fb", content=b'{"labels": {"env": "x"}}')
    assert reply.json()["workload"]["id"] == "docker:host-a:a/b"


def test_two_of_one_name_must_be_told_apart(server: Served) -> None:
    server.furnish()
    twin = container("web-1", 21, "web")
    other = msgspec.structs.replace(twin.sighting, id=WorkloadId("docker:host-a:other"))
    server.report(2, msgspec.structs.replace(twin, sighting=other))
    reply = server.send("PUT", "/v1/labels/web-1", LabelsRequest(labels={}))
    assert reply.status_code == 409
    assert "docker:host-a:other, docker:host-a:web-1" in error_of(reply).remedy
