"""Completion over the console's own route: of the session alone, bounded, and plain data."""

import msgspec
from tests.controller.controlled import SHOP
from tests.web.consoled import READER, Consoled, Person
from tests.web.marked import EVIL
from tests.web.test_console_hostile import planted  # noqa: F401 - a fixture

PATH = "/policies/complete"


def offered(person: Person, text: str, line: object, column: object) -> list[str]:
    reply = person.submit(PATH, text=text, line=line, column=column)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    return [each["text"] for each in reply.json()["candidates"]]


def test_what_exists_is_offered(shared: Consoled) -> None:
    person = shared.signed_in(READER)
    assert offered(person, SHOP, 1, 28) == [], "what stands there already is not offered"
    text = "kind: EnforcementMode\nspec:\n  select: role = "
    assert offered(person, text, 3, 18) == ["api", "cache", "db", "web"]
    found = person.submit(PATH, text=text + "we", line=3, column=20).json()
    assert found == {"length": 2, "candidates": [{"text": "web", "about": "5 workloads", "insert": ""}]}


def test_nonsense_is_answered_with_nothing(shared: Consoled) -> None:
    person = shared.signed_in()
    for line, column in (("", ""), ("-1", "1"), ("1e9", "x"), ("9" * 30, "1"), ("1", "99"), ("\u0661", "1")):
        assert offered(person, "ki", line, column) == []
    assert offered(person, "k" * 500_000, 1, 2) == []


def test_it_is_of_the_session_alone(shared: Consoled) -> None:
    person = shared.signed_in()
    stranger = shared.browser()
    fields = {"text": "ki", "line": "1", "column": "3"}
    assert stranger.post(PATH, headers={"origin": shared.origin}, data=fields).status_code == 401
    assert person.post(PATH, **fields).status_code == 403
    assert person.post(PATH, csrf=shared.signed_in().token(), **fields).status_code == 403
    assert (
        person.post(PATH, csrf=person.token(), headers={"origin": "http://evil.example"}, **fields).status_code == 403
    )
    assert person.get(f"{PATH}?text=ki").status_code == 400, "a form alone: what is asked by an address is a version"


def test_hostile_names_are_data(planted: Person) -> None:  # noqa: F811
    reply = planted.submit(PATH, text="kind: EnforcementMode\nspec:\n  select: name = ", line=3, column=18)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    texts = [msgspec.json.decode(each["text"]) for each in reply.json()["candidates"] if each["text"].startswith('"')]
    assert EVIL in texts
