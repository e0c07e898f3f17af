"""Findings accepted and reopened in the console: by who may, with a form of the page, never out of sight."""

import pytest
from tests.controller.controlled import HOST
from tests.web.consoled import READER, Consoled, Person
from tests.web.marked import EVIL, faults
from tests.web.test_console_pages import words

from stockade.core.model.finding import finding_id
from stockade.core.model.ids import CheckId

pytestmark = pytest.mark.long

BRIDGE = finding_id(HOST, CheckId("br-netfilter"), "br0")


def accepted(person: Person, **more: str) -> int:
    return person.submit("/findings/accept", id=BRIDGE, **{"why": "the lab's", "until": "30d", **more}).status_code


def test_accepted_it_stands_below_and_is_reopened_there(console: Consoled) -> None:
    person = console.signed_in()
    assert "2 open" in words(person.page("/findings"))
    assert f"accept={BRIDGE}" in person.page("/findings")
    asked = person.page(f"/findings?accept={BRIDGE}")
    assert "Accept it" in asked
    assert "frames pass the bridge unjudged" in asked
    assert accepted(person) == 303
    page = words(person.page("/findings"))
    assert "1 open" in page
    assert "1 accepted" in page
    assert "the lab's" in page
    assert "frames pass the bridge unjudged" in page
    assert ("admin", "accept", "done") in console.audited()
    assert person.submit("/findings/reopen", id=BRIDGE).status_code == 303
    assert "2 open" in words(person.page("/findings"))
    assert ("admin", "reopen", "done") in console.audited()


def test_who_may_only_look_is_offered_nothing_and_refused(console: Consoled) -> None:
    assert accepted(console.signed_in()) == 303
    reader = console.signed_in(READER)
    page = reader.page("/findings")
    assert "the lab&#39;s" in page
    assert "/findings/reopen" not in page
    assert "accept=" not in page
    assert "Accept it" not in reader.page(f"/findings?accept={BRIDGE}")
    assert accepted(reader) == 403
    assert reader.submit("/findings/reopen", id=BRIDGE).status_code == 403
    assert [each[1] for each in console.audited()].count("accept") == 1


def test_without_the_pages_token_or_from_elsewhere_nothing_is_accepted(console: Consoled) -> None:
    person = console.signed_in()
    fields = {"id": BRIDGE, "why": "x"}
    assert person.post("/findings/accept", **fields).status_code == 403
    assert person.post("/findings/accept", {"origin": "http://evil.example"}, **fields).status_code == 403
    assert "2 open" in words(person.page("/findings"))


@pytest.mark.parametrize("more", [{"why": " "}, {"until": "soon"}, {"until": "2001-01-01"}, {"id": EVIL}])
def test_what_is_no_waiver_is_refused(console: Consoled, more: dict[str, str]) -> None:
    person = console.signed_in()
    assert person.submit("/findings/accept", **{"id": BRIDGE, "why": "x", "until": "", **more}).status_code in (
        404,
        422,
    )
    assert "2 open" in words(person.page("/findings"))


def test_a_reason_is_text(console: Consoled) -> None:
    person = console.signed_in()
    assert accepted(person, why=EVIL) == 303
    page = person.page("/findings")
    assert faults(page) == []
    assert " ".join(EVIL.split()) in words(page)
