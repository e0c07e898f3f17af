"""The page of flows: what it shows of what was recorded, what it refuses and where it says so, what it hands out."""

import csv
import io
import json
import re
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from pyarrow import parquet
from tests.controller.controlled import SHOP
from tests.web.consoled import READER, Consoled, Person, consoled
from tests.web.flowing import DEFAULT, ENTERS, WEB_TO_API, both, flowing, key, record
from tests.web.marked import EVIL, elements, faults
from tests.web.test_console_pages import drafted, value

from stockade.controller.exporters.exporters import Exporters
from stockade.core.model.flow import BY_EXPORTER, Flow, Tally, Verdict
from stockade.core.model.ids import HostId
from stockade.wire.api import Setting

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoled]:
    with flowing(tmp_path_factory.mktemp("recorded")) as console:
        yield console


@pytest.fixture(scope="module")
def person(recorded: Consoled) -> Person:
    return recorded.signed_in(READER)


def words(page: str) -> str:
    """What a page says, with a space between one cell and the next."""
    return " ".join(" ".join(elements(page).text).split())


def rows(page: str, label: str = "Flows") -> list[str]:
    table = page.split(f'aria-label="{label}"')[1].split("</table>", maxsplit=1)[0]
    return [words(row) for row in re.findall(r"<tr[^>]*>.*?</tr>", table, re.DOTALL)[1:]]


def links(page: str, text: str) -> list[str]:
    """The addresses of links whose text holds something."""
    found = re.findall(r'<a [^>]*?href="([^"]+)"[^>]*>(.*?)</a>', page, re.DOTALL)
    return [elements(f'<a href="{href}">').found[0][1]["href"] for href, said in found if text in words(said)]


def test_flows_are_one_line_each_newest_first(person: Person) -> None:
    page = person.page("/flows")
    shown = rows(page)
    assert len(shown) == 50
    moments = [float(each) for each in re.findall(r"show=([0-9.]+)-", page)]
    assert moments == sorted(moments, reverse=True)
    refused = next(row for row in rows(person.page("/flows?verdict=denied")) if "denied" in row)
    assert re.fullmatch(r"[0-9 :-]+ denied web-1 db-1 tcp/5432 destination default 2 5 300 B", refused)
    assert "–" in next(row for row in shown if "ended" in row), "what was carried has no rule"


@pytest.mark.parametrize(
    ("query", "count", "all_hold"),
    [
        ("from=role+%3D+web&verdict=denied", 5, "web-1 db-1"),
        ("to=203.0.113.0/24", 1, "batch-91 203.0.113.9"),
        ("from=unknown", 1, "203.0.113.9 web-1 by 192.0.2.10:443"),
        ("on=postgres&verdict=denied", 5, "tcp/5432"),
        ("rule=default&verdict=would-be-denied", 1, "batch-91"),
        ("since=7m&verdict=allowed&from=role+%3D+web", 4, "web-"),
        ("from=docker:host-a:batch-91", 1, "curl (batch.service)"),
    ],
)
def test_filters_are_the_api_s(person: Person, query: str, count: int, all_hold: str) -> None:
    shown = rows(person.page(f"/flows?{query}"))
    assert len(shown) == count
    assert all(all_hold in row for row in shown)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=role+%3D", 'id="wrong-from"'),
        ("to=app+~+shop", "app ~ shop\n    ^"),
        ("on=postgress", "did you mean"),
        ("verdict=maybe", "is no verdict"),
        ("by=colour", "cannot be grouped"),
        ("order=colour", "orders nothing"),
        ("since=yesterday", "is no moment"),
        ("at=2026-13-01", "is no moment"),
        ("since=" + "9" * 15, "is no moment"),
    ],
)
def test_a_mistake_is_said_at_its_field(person: Person, query: str, said: str) -> None:
    reply = person.get(f"/flows?{query}")
    assert reply.status_code == 422
    assert said in reply.text
    name = query.partition("=")[0]
    if name in {"from", "to", "on", "since", "at", "by"}:
        field = next(given for tag, given in elements(reply.text).found if given.get("id") == f"f-{name}")
        assert field["aria-invalid"] == "true"
        assert field["aria-describedby"] == f"wrong-{name}"


def test_pages_follow_one_another_and_repeat_nothing(person: Person) -> None:
    path, seen = "/flows?limit=30&since=8d", list[str]()
    while path:
        page = person.page(path)
        seen += re.findall(r'href="([^"]*show=[^"]+)"', page.split('aria-label="Flows"')[1].split("</table>")[0])
        path = next(iter(links(page, "Older")), "")
    tokens = [re.search(r"show=([0-9.]+-[0-9a-f]{16})", each)[1] for each in seen]  # type: ignore[index]
    assert len(set(tokens)) == len(tokens) > 150


def test_verdicts_are_counted_whichever_is_shown(person: Person) -> None:
    page = person.page("/flows?verdict=denied")
    chips = [words(each) for each in re.findall(r'<a class="chip".*?</a>', page, re.DOTALL)]
    assert "denied 10" in chips
    assert "would be denied 6" in chips
    assert any(re.fullmatch(r"allowed \d+", each) for each in chips)


def test_summed_up_and_back_to_what_was(person: Person) -> None:
    page = person.page("/flows?by=source.role,destination.role,verdict")
    shown = rows(page, "Flows, summed up")
    refused = next(row for row in shown if row.startswith("web db denied"))
    assert refused.startswith("web db denied 10 25 1.5 kB 0 B")
    inside = next(each for each in links(page, "web") if "verdict=denied" in each)
    assert "from=role+%3D+web" in inside
    singly = rows(person.page(inside))
    assert len(singly) == 5
    assert all("denied web-1 db-1" in row for row in singly)


@pytest.mark.parametrize(
    "by",
    [
        "protocol,port",
        "source.workload",
        "destination.address",
        "rule,verdict",
        "day",
        "host",
        "process,end",
        "via,service",
    ],
)
def test_each_group_leads_to_its_own_flows(person: Person, by: str) -> None:
    page = person.page(f"/flows?since=3d&by={by}")
    table = page.split('aria-label="Flows, summed up"')[1].split("</table>")[0]
    inside = links(table.split("<tbody>")[1], "")
    assert inside
    for each in inside:
        assert rows(person.page(each)), each


def test_the_numbers_of_a_program_are_those_of_the_flows_behind_them(person: Person) -> None:
    """A group's connections are the sum of its flows', also where no program is known."""
    page = person.page("/flows?since=3d&by=process,end,verdict")
    shown = rows(page, "Flows, summed up")
    assert any(row.startswith("curl (batch.service) source would be denied 6") for row in shown)
    table = page.split('aria-label="Flows, summed up"')[1].split("</table>")[0].split("<tbody>")[1]
    inside = links(table, "")
    assert len(inside) == len(shown), "each has a link"
    nameless = [each for each in inside if "process=none" in each]
    assert len(nameless) == len(inside) - 1
    for each in inside:
        singly = person.page(f"{each}&limit=500")
        assert rows(singly)
        assert ("curl" in " ".join(rows(singly))) == (each not in nameless)


def test_a_program_on_the_map_leads_to_its_flows(person: Person) -> None:
    drawn = json.loads(person.page("/map/data?by=workload&seen=1"))
    ids = {each["text"]: each["id"] for each in drawn["nodes"]}
    source = next(id_ for text, id_ in ids.items() if "batch-91" in text)
    key = next(f"{each['source']}~{each['destination']}" for each in drawn["edges"] if each["source"] == source)
    beside = person.page(f"/map/beside?by=workload&edge={quote(key)}")
    (inside,) = links(beside, "curl (batch.service)")
    assert "process=curl" in inside
    assert len(rows(person.page(inside))) == 1


def test_groups_of_what_is_absent_lead_nowhere(person: Person) -> None:
    page = person.page("/flows?by=source.role&from=unknown")
    assert rows(page, "Flows, summed up")[0].startswith("–")
    assert links(page.split("Flows, summed up")[1].split("</table>")[0].split("<tbody>")[1], "") == []


def test_a_time_shows_that_time_alone(recorded: Consoled, person: Person) -> None:
    now = recorded.installation.controller.clock.now()
    page = person.page(f"/flows?at={now - 2 * 86_400 + 60:.0f}&since=10m")
    assert len(rows(page)) == 6
    assert "back to now" in words(page)
    assert "Follow" not in words(page)
    assert "--at=" in page


def test_connections_over_time_are_drawn_and_told(person: Person) -> None:
    page = person.page("/flows")
    said = words(page)
    assert "Connections by the minute" in said
    assert page.count('<svg viewBox="0 0 610 100"') + page.count('<svg viewBox="0 0 600 100"') == 3
    told = rows(page, "Connections by the minute")
    denied = [int(row.split(" UTC ")[1].split()[0]) for row in told]
    assert sum(denied) == 10
    assert "Connections by the hour" in words(person.page("/flows?since=7d"))
    assert "Connections by the day" in words(person.page("/flows?since=30d"))


def test_one_flow_says_what_decided_and_where_that_is_written(person: Person) -> None:
    page = person.page("/flows?verdict=allowed&from=role+%3D+api")
    path = next(each for each in links(page, ":") if "show=" in each)
    beside = person.page(path).split('id="drawer"')[1]
    said = words(f"<p {beside}")
    assert "api-1 → db-1" in said
    assert "shop/api-to-db shop.yaml:9" in said
    assert "role = api → role = db postgres" in said
    assert "Labels then app = shop" in said
    assert "What else these two did" in said
    assert any("/explain?source=docker%3Ahost-a%3Aapi-1" in each for each in links(beside, "Explain"))
    assert any(each.startswith("/policies/1#L9") for each in links(beside, "shop.yaml:9"))
    for each in links(beside, ""):
        assert person.get(each.partition("#")[0]).status_code == 200, each


def test_what_decided_is_shown_as_it_was_written_then(tmp_path: Path) -> None:
    with flowing(tmp_path, recorded=False) as console:
        now = console.installation.controller.clock.now()
        record(console, *both("web-1", "api-1", 8080, WEB_TO_API, now), number=1)
        record(console, *both("web-1", "api-1", 8080, WEB_TO_API, now - 3000), number=2)
        person = console.signed_in()
        moved = SHOP.replace("  rules:", "  # moved\n  rules:")
        expect = value(drafted(person, "plan", moved), "expect")
        assert drafted(person, "apply", moved, expect=expect) == "/policies/2"
        shown = links(person.page("/flows?verdict=allowed"), ":")
        beside = [person.page(each).split('id="drawer"')[1] for each in shown if "show=" in each]
        assert any(each.startswith("/policies/1#L7") for each in links(beside[0], "shop.yaml:7"))
        assert any(each.startswith("/policies/2#L8") for each in links(beside[-1], "shop.yaml:8"))
        assert "which became active later" in words(f"<p {beside[-1]}")


def test_a_flow_that_is_gone_is_said_to_be(person: Person) -> None:
    for show in ("1700000000.5-0123456789abcdef", "x", "-1-2", "1e400-1", "9" * 40):
        page = person.page(f"/flows?show={show}")
        assert "not kept singly any more" in words(page)


def test_what_was_lost_is_said(person: Person) -> None:
    assert "Lost since" in words(person.page("/flows"))
    assert "12 decisions (nflog, host-a)" in words(person.page("/flows"))
    page = words(person.page("/flows/store"))
    assert "12 decisions" in page
    assert "By the minute 10000 days" in page


# Files


def test_a_file_holds_what_is_asked_for(person: Person) -> None:
    reply = person.get("/flows/export?form=csv&verdict=denied")
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="flows-\d{8}T\d{6}Z\.csv"', reply.headers["content-disposition"])
    read = list(csv.DictReader(io.StringIO(reply.text)))
    assert [(each["source"], each["verdict"]) for each in read] == [("web-1", "denied")] * 5
    lines = person.get("/flows/export?form=json&verdict=denied").text.splitlines()
    assert {msgspec.json.decode(each)["destination"]["name"] for each in lines} == {"db-1"}
    content = person.get("/flows/export?form=parquet&verdict=denied").content
    assert parquet.read_table(io.BytesIO(content)).num_rows == 5


def test_a_file_that_cannot_be_is_a_page(recorded: Consoled, person: Person) -> None:
    for query in ("form=xls", "form=csv&from=role+%3D", ""):
        reply = person.get(f"/flows/export?{query}")
        assert reply.status_code in {400, 422}
        assert reply.headers["content-type"].startswith("text/html")
        assert "content-disposition" not in reply.headers
    assert recorded.browser().get("/flows/export?form=csv").status_code == 303


def test_a_file_that_is_too_long_never_passes_for_whole(
    recorded: Consoled, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.web.exporting.PAGE", 20)
    assert len(person.get("/flows/export?form=json&since=8d").text.splitlines()) > 150
    monkeypatch.setattr("stockade.web.exporting.MOST_WRITTEN", 50)
    with pytest.raises(Exception, match=r"incomplete|closed"):
        person.get("/flows/export?form=json&since=8d")
    assert person.get("/flows").status_code == 200


# Nothing there


def test_without_flows_the_page_says_why(tmp_path: Path, shared: Consoled) -> None:
    assert "No flows are kept" in words(shared.signed_in().page("/flows"))
    assert "No flows are kept" in words(shared.signed_in().page("/flows/store"))
    assert shared.signed_in().get("/flows/export?form=csv").status_code == 404
    with consoled(tmp_path) as console:
        installation = console.installation
        settings = (*installation.settings, Setting("flows", "off", "flag --flows"))
        msgspec.structs.force_setattr(installation, "settings", settings)
        said = words(console.signed_in().page("/flows"))
        assert "the setting is off. It was set by flag --flows" in said


def test_without_the_extra_the_page_says_how_to_get_it(shared: Consoled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.web.pages.flows.NEEDED", ("no_such_module_at_all",))
    said = words(shared.signed_in().page("/flows"))
    assert "no_such_module_at_all is missing. pip install 'stockade[flows]'" in said


def test_first_nothing_then_flows_and_the_page_looks_again(tmp_path: Path) -> None:
    with flowing(tmp_path, recorded=False) as console:
        person = console.signed_in()
        assert "Nothing has been recorded yet" in words(person.page("/flows"))
        rung = re.search(r'data-rung="([^"]+)" data-flows="1"', person.page("/flows?follow=1"))
        assert rung
        with person.http.stream("GET", "/live?flows=1") as stream:
            events = (line for line in stream.iter_lines() if line.startswith("id:"))
            assert next(events) == f"id: {rung[1]}"
            now = console.installation.controller.clock.now()
            record(console, *both("web-1", "api-1", 8080, DEFAULT, now - 1))
            assert next(events) == f"id: {rung[1].partition('.')[0]}.3"
        assert len(rows(person.page("/flows?follow=1"))) == 3
        assert "Nothing matches" in words(person.page("/flows?from=role+%3D+db"))


def test_what_a_device_without_an_agent_told_is_said_to_be_its_word(tmp_path: Path) -> None:
    with flowing(tmp_path, recorded=False) as console:
        now = console.installation.controller.clock.now()
        dropped = key("203.0.113.9", "198.51.100.7", 22, ENTERS, Verdict.DENIED, BY_EXPORTER)
        record(console, Flow(dropped, Tally(now - 2, now - 1, 1, 1, 60)), host=HostId("netflow:192.0.2.1"))
        exporters = Exporters((ip_network("192.0.2.1"),))
        exporters.hear(b"x", "192.0.2.1", now)
        exporters.hear(b"x", "192.0.2.2", now)
        msgspec.structs.force_setattr(console.installation, "exporters", exporters)
        person = console.signed_in()
        page = person.page("/flows")
        assert "device 192.0.2.1 exporter" in rows(page)[0]
        beside = words(person.page(next(each for each in links(page, ":") if "show=" in each)))
        assert "Told by device 192.0.2.1 , which has no agent" in beside
        assert "a device without an agent says that it dropped it" in beside
        page = person.page("/flows/store")
        assert rows(page, "Devices without an agent")[0].startswith("192.0.2.1 ")
        assert "1 datagram came from whom netflow-exporters does not name, and was not read" in words(page)
        assert links(page, "192.0.2.1") == ["/flows?host=netflow%3A192.0.2.1"]


# What others wrote


def test_hostile_flows_are_text_and_no_formula(tmp_path: Path) -> None:
    with flowing(tmp_path, recorded=False) as console:
        now = console.installation.controller.clock.now()
        evil = key("web-1", "db-1", 5432, ENTERS, Verdict.DENIED, f"shop/{EVIL}", process=f"={EVIL}", service=EVIL)
        record(console, Flow(evil, Tally(now - 2, now - 1, 1, 1, 60)))
        person = console.signed_in()
        page = person.page("/flows")
        path = next(each for each in links(page, ":") if "show=" in each)
        shown = [path, "/flows?by=rule,process,service", f"/flows?rule={quote(EVIL)}", "/flows/store"]
        shown += [f"/flows?{name}={quote(EVIL)}" for name in ("from", "by", "at", "show", "host", "after", "order")]
        for each in shown:
            reply = person.get(each)
            assert reply.status_code in {200, 422}
            assert faults(reply.text) == [], each
        assert EVIL in "".join(elements(person.page(path)).text), "the page does not show it, and so proves nothing"
        row = next(csv.DictReader(io.StringIO(person.get("/flows/export?form=csv").text)))
        assert row["process"] == f"'={EVIL}"
