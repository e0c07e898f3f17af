"""What others write (names, labels, images, policy, notes, findings, addresses of pages) never becomes markup."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from tests.controller.controlled import HOST, MODES, SHOP, report
from tests.web.consoled import Consoled, Person, consoled
from tests.web.marked import EVIL, elements, faults
from tests.web.test_console_guard import PATHS

from stockade.controller.accepting import accept
from stockade.controller.findings import EVERYWHERE
from stockade.core.graph.anomalies import finding
from stockade.core.graph.anomaly import Anomaly, AnomalyKind
from stockade.core.graph.values import Seen, Traffic
from stockade.core.model.event import Event, LabelsSet, WorkloadSeen
from stockade.core.model.finding import Finding, Severity, Unassessed, finding_id
from stockade.core.model.flow import FlowEnd
from stockade.core.model.ids import Address, CheckId, WorkloadId
from stockade.core.model.inventory import Facts, Sighting, WorkloadKind, WorkloadState
from stockade.wire import BirthRecord, Findings, Outcome
from stockade.wire.api import AcceptRequest, ApplyRequest, Caller, File, Role

pytestmark = pytest.mark.long

MALLORY = Caller(name=f"mal{EVIL}", uid=1003, role=Role.APPLY)
POLICY = f"# {EVIL}\n" + SHOP
EVIL_ID = WorkloadId(f"docker:host-a:{EVIL}")


def hostile() -> tuple[Event, ...]:
    facts = Facts(runtime="docker", image=EVIL, labels=(("com.docker.compose.service", EVIL), (EVIL, EVIL)))
    sighting = Sighting(EVIL_ID, EVIL, WorkloadKind.CONTAINER, HOST, WorkloadState.RUNNING, (), None, facts, 1.0)
    return (WorkloadSeen(sighting), LabelsSet(EVIL_ID, (("app", "shop"),), EVIL))


async def _planted(console: Consoled) -> None:
    installation = console.installation
    controller = installation.controller
    await report(controller, hostile()[0])
    files = (File(f"p{EVIL}.yaml", POLICY), File("modes.yaml", MODES))
    await installation.lifecycle.apply(ApplyRequest(files=files, yes=True, wait=0, note=EVIL), MALLORY)
    await controller.publish()
    intent = controller.roster.wanted[HOST]
    born = BirthRecord(EVIL_ID, EVIL, 1.0, 1.0, 1.1, 1.2, 1.2, EVIL)
    await controller.note(Outcome(HOST, intent.revision, intent.version, intent.fingerprint, EVIL, (born,)))
    found = Finding(CheckId(EVIL), EVIL, Severity.HIGH, EVIL, EVIL, 1.0)
    await controller.take(Findings(HOST, (found,), (Unassessed(CheckId(EVIL), EVIL, EVIL),)))
    end = FlowEnd(Address("10.9.9.9"), WorkloadId(EVIL_ID), (("name", EVIL),))
    shown = Traffic(end, end, 6, 80, Seen(1.0, 2.0, allowed=1))
    anomaly = Anomaly(AnomalyKind.SCAN, EVIL, EVIL, 1.0, 2.0, ((EVIL, 1.0),), (shown,))
    controller.alarms.take([anomaly], 2.0)
    await controller.take(Findings(EVERYWHERE, (finding(anomaly),)))
    other = Finding(CheckId(EVIL), EVIL + EVIL, Severity.HIGH, EVIL, EVIL, 1.0)
    await controller.take(Findings(HOST, (found, other), (Unassessed(CheckId(EVIL), EVIL, EVIL),)))
    accepted = finding_id(HOST, other.check, other.object)
    await accept(controller, AcceptRequest(id=accepted, why=EVIL), MALLORY)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    with consoled(tmp_path_factory.mktemp("planted")) as console:
        console.furnish()
        console.do(_planted(console))
        yield console.signed_in(MALLORY)


SHOWN = {
    "/workloads": EVIL,
    f"/workloads?show={quote(EVIL_ID)}": EVIL,
    "/map?by=workload": EVIL,
    "/map?by=workload&rows=all&unseen=1": EVIL,
    "/policies": EVIL,
    "/policies/2": EVIL,
    "/policies/draft": EVIL,
    f"/explain?source={quote(EVIL)}&destination=db-1&on=tcp/5432": EVIL,
    "/births": EVIL,
    "/findings": EVIL,
    "/audit": EVIL,
    "/points?show=host-a": EVIL,
    "/search?q=x-evil": EVIL,
    "/settings": MALLORY.name,
}


@pytest.mark.parametrize("path", SHOWN)
def test_what_is_stored_is_text(planted: Person, path: str) -> None:
    reply = planted.get(path)
    assert reply.status_code < 500
    assert faults(reply.text) == []
    read = elements(reply.text)
    said = "".join(read.text) + "".join("".join(given.values()) for _, given in read.found)
    assert SHOWN[path] in said, "the page does not show it at all, and so proves nothing"


TEXTS = ("to", "rule", "by", "at", "since", "until", "verdict", "order", "after", "form", "follow", "name", "within",
         "enforce", "tighten", "select", "show", "host", "only", "workload", "slowest", "leaked", "severity", "q",
         "source", "accept", "destination", "on", "token", "x", "edge", "node", "view", "rows")  # fmt: skip
NUMBERS = ("from", "last", "before", "span")
"""Refused before anything else is looked at, where they are none."""


@pytest.mark.parametrize("path", [*PATHS, "/sign-in", "/nowhere"])
def test_what_an_address_says_is_text(planted: Person, path: str) -> None:
    for value in (EVIL, "javascript:alert(1)", "\x00\x1b[31m", "9" * 400):
        for query in (_query(value, (*TEXTS, *NUMBERS)), _query(value, TEXTS)):
            reply = planted.get(f"{path}?{query}")
            assert reply.status_code < 500, (path, query)
            assert faults(reply.text) == [], (path, query)
    reply = planted.get(f"{path}/{quote(EVIL, safe='')}")
    assert reply.status_code < 500
    assert faults(reply.text) == []


def _query(value: str, names: tuple[str, ...]) -> str:
    return "&".join(f"{name}={quote(value)}" for name in names)


def test_what_a_form_says_is_text(planted: Person) -> None:
    replies = [
        planted.submit("/policies/draft", step="plan", name=f"{EVIL}.yaml", text=EVIL),
        planted.submit("/policies/draft", step="plan", name="a.yaml", text=f"kind: {EVIL}"),
        planted.submit("/policies/draft", step=EVIL, name=["a", "a"], text=["", EVIL]),
        planted.submit("/policies/draft", step="apply", name="a.yaml", text="", note=EVIL, expect=EVIL, confirm=EVIL),
        planted.submit("/policies/draft", step="apply", name="a.yaml", text="", note=EVIL, expect=EVIL),
        planted.submit(f"/policies/{quote(EVIL, safe='')}/rollback", note=EVIL),
        planted.submit("/policies/confirm", version=EVIL),
        planted.submit("/workloads/labels", workload=EVIL_ID, labels=EVIL),
        planted.post("/sign-in", token=EVIL),
    ]
    for reply in replies:
        assert 400 <= reply.status_code < 500
        assert faults(reply.text) == []


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nb", ""]
)
def test_nothing_leads_elsewhere(planted: Person, back: str) -> None:
    reply = planted.submit("/settings/theme", theme="dark", back=back)
    assert (reply.status_code, reply.headers["location"]) == (303, "/map")


def test_forms_are_bounded_and_of_one_kind(planted: Person) -> None:
    token = planted.token()
    assert planted.post("/policies/draft", csrf=token, step="plan", name="a", text="x" * 9_000_000).status_code == 413
    fields = {f"f{number}": "" for number in range(5000)}
    assert planted.post("/policies/draft", csrf=token, **fields).status_code == 400
    for kind in ("application/json", "multipart/form-data; boundary=x", "text/plain", ""):
        headers = {"origin": planted.origin, "content-type": kind}
        reply = planted.http.post("/policies/draft", content=b"csrf=x", headers=headers)
        assert reply.status_code == 400
    raw = {"origin": planted.origin, "content-type": "application/x-www-form-urlencoded"}
    assert planted.http.post("/policies/draft", content=b"csrf=%ff\xff", headers=raw).status_code == 400


def test_the_reader_of_this_test_sees_what_it_looks_for() -> None:
    """Each of these, unescaped, is a fault."""
    assert faults(EVIL)
    for each in (
        "<x-evil>",
        "<p onclick=x>",
        "<a href='javascript:x'>",
        "<script>x</script>",
        "<img src=x>",
        "<p style=x>",
    ):
        assert faults(each), each
