"""The wire: every value travels unchanged, and another schema is refused."""

import msgspec
import pytest

from stockade.core.model.finding import Finding, Severity, Unassessed
from stockade.core.model.ids import CheckId, HostId, Revision, Version
from stockade.core.model.intent import Intent
from stockade.core.model.policy import Births
from stockade.wire import AgentMessage, Assignment, Counters, Findings, Outcome, Report, RuleCount
from stockade.wire.api import ConfirmRequest, Role
from stockade.wire.routes import ROUTES, Method, route

MESSAGES: tuple[AgentMessage, ...] = (
    Report(HostId("a"), 3, ()),
    Outcome(HostId("a"), Revision(1), Version(2), "f"),
    Counters(HostId("a"), (RuleCount("shop/web", "allow", 3, 180),), (("nflog", 2),), 10, 100),  # type: ignore[arg-type]
    Findings(
        HostId("a"),
        (Finding(CheckId("hooks"), "x", Severity.HIGH, "seen", "do", 1.5),),
        (Unassessed(CheckId("hooks"), "why"),),
    ),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("codec", [msgspec.json, msgspec.msgpack], ids=["json", "msgpack"])
def test_what_agents_say_travels_unchanged(message: AgentMessage, codec: object) -> None:
    kind: object = AgentMessage
    assert codec.decode(codec.encode(message), type=kind) == message  # type: ignore[attr-defined]


def test_an_assignment_travels_unchanged() -> None:
    assigned = Assignment(Intent(HostId("a"), Revision(1), Version(2), Births.HOLD, fingerprint="f"))
    assert msgspec.json.decode(msgspec.json.encode(assigned), type=Assignment) == assigned


def test_another_schema_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.schema"):
        msgspec.json.decode(b'{"schema": 2}', type=ConfirmRequest)


def test_routes_are_told_apart() -> None:
    assert len({each.name for each in ROUTES}) == len(ROUTES)
    assert len({(each.method, each.path) for each in ROUTES}) == len(ROUTES)
    assert all(route(each.name) is each for each in ROUTES)


def test_whatever_changes_anything_needs_the_role_for_it() -> None:
    reading = {each.name for each in ROUTES if each.method is not Method.GET and each.role < Role.APPLY}
    assert reading == {"plan", "suggest", "draft-graph", "console-link"}  # none changes what is enforced
    assert all(each.role > Role.NOBODY for each in ROUTES)


def test_path_parameters_are_in_the_path() -> None:
    for each in ROUTES:
        assert {p.name for p in each.parameters if p.path} == {
            part.strip("{}") for part in each.path.split("/") if part.startswith("{")
        }
