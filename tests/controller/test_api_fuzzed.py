"""Every route, fuzzed from the OpenAPI document that is served: what it says may be sent, and what it says may not.

Whatever comes, the answer is one that the document lists for it, and never an unforeseen error. What the document
forbids is refused. Who may not is told so, however well the request is made.
"""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from served import Served, served

from stockade.adapters.clickhouse.apart import FlowStoreApart
from stockade.controller.http.openapi import document
from stockade.controller.http.peers import Access, Peer
from stockade.wire.api import Role
from stockade.wire.routes import ROUTES, Route

pytestmark = pytest.mark.long

EXAMPLES = int(os.environ.get("STOCKADE_FUZZ", "6"))
"""Of each route, and of each way to make one."""
DOCUMENT = schemathesis.openapi.from_dict(json.loads(msgspec.json.encode(document())))
HOLD = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="STOCKADE_FUZZ" not in os.environ,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


class Strangers(Access, frozen=True):
    """Nobody may do anything, root included, as whom tests run."""

    def role(self, peer: Peer) -> Role:  # noqa: ARG002
        return Role.NOBODY


each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all: what an odd request leaves behind must not break the next."""
    folder = tmp_path_factory.mktemp("fuzzed")
    with closing(FlowStoreApart(folder / "flows")) as flows, served(folder, Access(os.geteuid()), flows) as server:
        server.furnish()
        yield server


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One to which everybody is a stranger."""
    with served(tmp_path_factory.mktemp("strange"), Strangers(0)) as server:
        yield server


def requests(route: Route, mode: GenerationMode) -> st.SearchStrategy[Case]:
    """Requests of a route, as its document says or as it forbids."""
    operation = DOCUMENT[route.path][route.method.value]
    return operation.as_strategy(generation_mode=mode)


def sent(server: Served, case: Case) -> httpx.Response:
    """Send one; what would make the server wait, or stream until somebody leaves, is left out."""
    if isinstance(case.query, dict):
        case.query = {name: value for name, value in case.query.items() if name not in ("wait", "watch")}
    if isinstance(case.body, dict) and isinstance(case.body.get("wait"), (int, float)):
        case.body = {**case.body, "wait": 0}
    given = case.as_transport_kwargs(base_url="http://stockade")
    kept = {name: given[name] for name in ("method", "url", "headers", "params", "json", "data") if name in given}
    kept["content"] = kept.pop("data", None)
    return server.http.request(**kept)


PLAUSIBLE = (
    *("web-1", "db-1", "docker:host-a:web-1", "host-a", "local", "active", "1", "0", "10.0.0.1", "::", "10.0.0.0/33"),
    *("app = shop", "role in (web", "known", "network:", "tcp/5432", "tcp/0-99999", "postgres", "denied", "allowed,,"),
    *("source.role,rule,minute", "source.", "connections", "2026-02-30", "2026-01-01T00:00", "-1", "1e400", "nan"),
    *("' OR 1=1 --", "') UNION SELECT * FROM system.tables --", "{x:String}", "%s", "\\", "\0", "../../etc/passwd"),
    *("{{7*7}}", "$(id)", "<script>", "\x1b]0;x\x07", "\u202e", "\ud7ff", "a" * 5000, "🏰"),
)
"""What somebody would try: names that are there, values of other parameters, and what breaks other programs."""


@each_route
def test_whatever_the_document_allows_is_answered_as_it_says(fuzzed: Served, route: Route) -> None:
    @bounded
    @given(requests(route, GenerationMode.POSITIVE))
    def hold(case: Case) -> None:
        case.validate_response(sent(fuzzed, case), checks=HOLD)

    hold()


@pytest.mark.parametrize(
    "route",
    [each for each in ROUTES if each.request or any(not one.path for one in each.parameters)],
    ids=lambda route: route.name,
)
def test_whatever_the_document_forbids_is_refused(fuzzed: Served, route: Route) -> None:
    @bounded
    @given(requests(route, GenerationMode.NEGATIVE))
    def hold(case: Case) -> None:
        case.validate_response(sent(fuzzed, case), checks=[*HOLD, negative_data_rejection])

    hold()


@each_route
def test_plausible_and_hostile_values_are_answered_in_words(fuzzed: Served, route: Route) -> None:
    """Each refusal says what was wrong, and none shows what lies beneath (a statement, a traceback)."""
    names = [each.name for each in route.parameters if each.name not in ("wait", "watch")]
    path = {each.name for each in route.parameters if each.path}

    @bounded
    @given(st.fixed_dictionaries({}, optional={name: st.sampled_from(PLAUSIBLE) for name in names}))
    def hold(values: dict[str, str]) -> None:
        case = DOCUMENT[route.path][route.method.value].Case(
            path_parameters={name: quote(values.get(name, "web-1"), safe="", errors="replace") for name in path},
            query={name: value for name, value in values.items() if name not in path},
            body={} if route.request else schemathesis.core.NOT_SET,
            media_type="application/json" if route.request else None,
        )
        reply = sent(fuzzed, case)
        case.validate_response(reply, checks=HOLD)
        if reply.status_code != 200:
            says = reply.json()["error"]
            assert says
            for value in values.values():
                says = says.replace(value, "")
            assert not [each for each in ("Traceback", "SELECT", "sqlite", "DB::Exception") if each in says]

    hold()


@each_route
def test_who_may_not_is_told_so(strange: Served, route: Route) -> None:
    @bounded
    @given(requests(route, GenerationMode.POSITIVE))
    def hold(case: Case) -> None:
        reply = sent(strange, case)
        if reply.status_code != 404 or reply.json()["error"] != "there is no such path":
            assert (reply.status_code == 403) == (route.role > Role.NOBODY)

    hold()
