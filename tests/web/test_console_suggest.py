"""Suggestions and replays in the console: what they rest on, the way into the draft, and what they leave as it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.controller.controlled import FILES, MODES, SHOP
from tests.web.consoled import READER, Consoled, Person
from tests.web.flowing import ENTERS, flowing, key, record
from tests.web.marked import EVIL, elements, faults
from tests.web.test_console_flows import links, rows, words
from tests.web.test_console_pages import drafted

from stockade.core import policy
from stockade.core.model.flow import Flow, Tally, Verdict
from stockade.web.taking import replaced, taken
from stockade.wire.api import File

pytestmark = pytest.mark.long

ANOTHER = """\
# ours
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: other}
spec:
  scope: app = other
  rules: []
"""
NEW = ANOTHER.replace("# ours\n", "").replace("app = other", "app = new")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoled]:
    with flowing(tmp_path_factory.mktemp("recorded")) as console:
        yield console


@pytest.fixture
def person(recorded: Consoled) -> Person:
    return recorded.signed_in(READER)


def text_of(page: str) -> str:
    return next(given["value"] for tag, given in elements(page).found if given.get("name") == "text")


def name_of(page: str) -> str:
    named = [given for tag, given in elements(page).found if given.get("name") == "name"]
    return next(given["value"] for given in named if given.get("type") == "hidden")


def draft_of(person: Person) -> dict[str, str]:
    """The files of the draft, by name, as their fields hold them."""
    page = person.page("/policies/draft")
    names = [given["value"] for tag, given in elements(page).found if given.get("name") == "name"]
    texts = [part.split("</textarea>")[0] for part in page.split("<textarea ")[1:]]
    return {name: elements(f"<p {text}").text[0].lstrip("\n") for name, text in zip(names, texts, strict=True)}


def test_a_suggestion_says_what_it_rests_on(person: Person) -> None:
    page = person.page("/policies/suggest?select=app+%3D+shop&since=7d")
    said = words(page)
    assert "role = web → role = api" in said
    assert "role = api → role = db" in said
    assert "of kind" not in said
    assert "connections that were seen are allowed by it" in said
    assert "Learnt from the first three quarters" in said
    assert "95 %:" in said
    assert "is of a kind not seen yet with a probability of" in said
    assert "Would also open, not seen:" in said
    left = rows(page, "Seen, and not allowed by it")
    assert any("web-1 db-1 tcp/5432 10 " in each for each in left)
    assert any(each.startswith("203.0.113.9 web-1") for each in left)
    assert policy.read((policy.SourceText("x", text_of(page).encode()),)).problems == ()


def test_what_was_shown_is_taken_into_the_draft_and_planned(person: Person) -> None:
    page = person.page("/policies/suggest?select=app+%3D+shop&enforce=1")
    reply = person.submit("/policies/suggest", text=text_of(page), name=name_of(page))
    assert (reply.status_code, reply.headers["location"]) == (303, "/policies/draft")
    files = draft_of(person)
    assert files["suggested-shop.yaml"] == text_of(page)
    assert files["shop.yaml"] == SHOP
    assert "Against version 1" in words(person.page("/policies/draft"))
    again = person.page("/policies/suggest?select=app+%3D+shop&enforce=1")
    assert "takes the place of what is called the same in suggested-shop.yaml" in words(again)
    person.submit("/policies/suggest", text=text_of(again), name=name_of(again))
    assert list(draft_of(person)) == list(files)


def test_a_ringfence_is_one(person: Person) -> None:
    page = person.page("/policies/suggest?select=app+%3D+shop&within=1&enforce=1")
    assert name_of(page) == "ringfence-shop"
    assert "besides its own" in words(page)
    assert "stockade ringfence shop --since=7d --enforce" in words(page)


def test_a_live_policy_is_tightened_in_its_place(person: Person) -> None:
    assert "/policies/suggest?tighten=shop" in links(person.page("/policies/suggest"), "shop")
    page = person.page("/policies/suggest?tighten=shop")
    assert "as it is: all of it was used" in words(page)
    assert "takes the place of what is called the same in shop.yaml" in words(page)
    person.submit("/policies/suggest", text=text_of(page), name="shop")
    assert draft_of(person) == {"modes.yaml": MODES, "shop.yaml": text_of(page)}


def test_a_suggestion_takes_no_live_policy_s_name(person: Person) -> None:
    reply = person.get("/policies/suggest?select=app+%3D+shop&name=shop")
    assert reply.status_code == 422
    assert "there is a policy called shop" in words(reply.text)
    assert "Take it into the draft" not in reply.text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select=app+%3D", "select : "),
        ("select=app+%3D+shop&since=never", "is no moment"),
        ("select=app+%3D+shop&name=a+b", "is no name for a policy"),
        ("tighten=nobody", "no policy is called nobody"),
        ("select=app+%3D+nobody", ""),
    ],
)
def test_what_cannot_be_suggested_is_said(person: Person, query: str, said: str) -> None:
    reply = person.get(f"/policies/suggest?{query}")
    assert reply.status_code == (422 if said else 200)
    assert said in words(reply.text)


def test_what_leads_to_a_suggestion(recorded: Consoled, person: Person) -> None:
    assert "/policies/suggest?select=app+%3D+shop" in links(person.page("/workloads?show=web-1"), "Suggest a policy")
    assert links(person.page("/policies"), "Suggest one") == ["/policies/suggest"]
    led = links(person.page("/flows?from=app+%3D+shop&since=1d"), "Suggest a policy")
    assert led == ["/policies/suggest?select=app+%3D+shop&since=1d"]
    led = links(person.page("/flows?from=web-1"), "Suggest a policy")
    assert led == ["/policies/suggest"]
    assert "/policies/suggest?select=app+%3D+shop&within=1&enforce=1" in links(
        person.page("/policies/suggest"), "ringfence it"
    )
    assert recorded.installation.controller.snapshot.version == 1


def test_without_flows_nothing_is_suggested(shared: Consoled) -> None:
    assert "nothing can be suggested" in words(shared.signed_in().page("/policies/suggest?select=all"))
    assert "Judge it by this draft" not in drafted(shared.signed_in(), "plan")


def test_a_draft_is_judged_by_what_was_recorded(person: Person) -> None:
    narrower = SHOP.replace("to: role = db, on: [postgres]", "to: role = db, on: [tcp/5433]")
    planned = drafted(person, "plan", narrower)
    assert "Judge it by this draft" in planned
    assert "Recorded" not in words(planned)
    judged = drafted(person, "replay", narrower, replay="604800")
    assert "connections passed and would be denied" in words(judged)
    cut = rows(judged, "Recorded, and decided otherwise")
    assert any(each.startswith("denied api-1 db-1 tcp/5432") for each in cut)
    assert "stockade plan policies/ --replay=168h" in words(judged)
    same = drafted(person, "replay", SHOP, replay="3600")
    assert "10 connections passed and would be denied" in words(same)
    cut = rows(same, "Recorded, and decided otherwise")
    assert cut == ["denied batch-91 203.0.113.9 tcp/443 6 held", "denied 203.0.113.9 web-1 tcp/443 4 the mode"]
    assert "is no number of seconds" in words(drafted(person, "replay", SHOP, replay="long"))


def test_hostile_suggestions_are_text(tmp_path: Path) -> None:
    with flowing(tmp_path, recorded=False) as console:
        now = console.installation.controller.clock.now()
        evil = key("web-1", "api-1", 8080, ENTERS, Verdict.ALLOWED, f"shop/{EVIL}", process=EVIL)
        record(console, Flow(evil, Tally(now - 2, now - 1, 1, 1, 60)))
        person = console.signed_in()
        page = person.page("/policies/suggest?select=app+%3D+shop")
        assert faults(page) == []
        assert EVIL in "".join(elements(page).text), "the page does not show it, and so proves nothing"
        for fields in ({"name": EVIL, "text": "x"}, {"name": "x", "text": ""}, {"name": "x"}):
            assert person.submit("/policies/suggest", **fields).status_code == 400
        person.submit("/policies/suggest", name="x", text=f"# {EVIL}\n")
        page = person.page("/policies/draft")
        assert faults(page) == []
        assert EVIL in draft_of(person)["x.yaml"]


# Among a draft's files


def test_a_new_document_is_a_file_of_its_own() -> None:
    assert taken(FILES, NEW, "other") == (*FILES, File("other.yaml", NEW))
    assert taken((File("other.yaml", ""),), NEW, "other")[1].name == "other-2.yaml"
    assert replaced(FILES, NEW) == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ANOTHER, NEW),
        (f"---\n{ANOTHER}---\n{MODES}", f"{NEW}---\n{MODES}"),
        (f"{MODES}---\n{ANOTHER}", f"{MODES}---\n{NEW}"),
        (f"{MODES}---\n{ANOTHER}---\n{SHOP}", f"{MODES}---\n{NEW}---\n{SHOP}"),
        (f"# head\n---\n{ANOTHER}", f"# head\n---\n{NEW}"),
    ],
)
def test_a_document_of_that_name_is_replaced_where_it_stood(before: str, after: str) -> None:
    found = taken((File("a.yaml", before), File("b.yaml", "# nothing\n")), NEW, "other")
    assert found == (File("a.yaml", after), File("b.yaml", "# nothing\n"))
    assert replaced((File("a.yaml", before),), NEW) == ("a.yaml",)
    assert policy.read((policy.SourceText("a", found[0].text.encode()),)).problems == ()


def test_documents_of_several_files_become_one_place() -> None:
    both = f"{NEW}---\n{MODES}"
    found = taken((File("a.yaml", ANOTHER), File("b.yaml", MODES), File("c.yaml", "kind: [")), both, "other")
    assert found == (File("a.yaml", both), File("c.yaml", "kind: ["))
