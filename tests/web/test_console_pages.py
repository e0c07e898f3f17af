"""What pages say and do, without a browser: a person with forms alone gets everything done."""

import re

import pytest
from tests.controller.controlled import FILES, HOST, SHOP
from tests.web.consoled import ADMIN, Consoled, Person
from tests.web.marked import elements

from stockade.web.pages import READ

pytestmark = pytest.mark.long

WIDER = SHOP.replace("to: role = api, on: [tcp/8080]", "to: role = api, on: [tcp/8080, tcp/9090]")


def drafted(person: Person, step: str, text: str = WIDER, **more: str) -> str:
    names, texts = ["modes.yaml", "shop.yaml"], [FILES[0].text, text]
    reply = person.submit("/policies/draft", step=step, name=names, text=texts, **more)
    if reply.status_code == 303:
        return reply.headers["location"]
    return reply.text


def value(page: str, name: str) -> str:
    return next(given["value"] for tag, given in elements(page).found if tag == "input" and given.get("name") == name)


def words(page: str) -> str:
    return " ".join("".join(elements(page).text).split())


def test_a_draft_is_planned_applied_watched_and_taken_back(console: Consoled) -> None:
    person = console.signed_in()
    planned = drafted(person, "plan")
    assert "would be allowed" in planned
    assert "tcp/9090" in planned
    applied = drafted(person, "apply", expect=value(planned, "expect"), note="metrics")
    assert applied == "/policies/2"
    assert "on its way: has version 1" in words(person.page(applied))
    console.obey()
    assert "in force since" in words(person.page(applied))
    assert person.submit("/policies/1/rollback").headers["location"] == "/policies/3"
    assert "version 1 again" in words(person.page("/policies"))
    done = [each for each in console.audited() if each[1] in {"apply", "rollback"}]
    assert done[:2] == [("admin", "rollback", "done"), ("admin", "apply", "done")]


def test_a_mistake_is_shown_at_its_line_and_nothing_is_lost(console: Consoled) -> None:
    person = console.signed_in()
    page = drafted(person, "plan", SHOP.replace("postgres", "postgress"))
    assert "shop.yaml:10:53" in page
    assert "did you mean postgres?" in words(page)
    assert "postgress" in person.page("/policies/draft")
    assert console.installation.controller.snapshot.version == 1


def test_what_was_not_planned_is_not_applied(console: Consoled) -> None:
    person = console.signed_in()
    seen = value(drafted(person, "plan"), "expect")
    refused = drafted(person, "apply", WIDER.replace("9090", "9091"), expect=seen)
    assert "this is not the plan that was seen" in words(refused)
    assert "apply needs the id of the plan that was seen" in words(drafted(person, "apply"))
    assert console.installation.controller.snapshot.version == 1
    assert ("admin", "apply", "refused") in console.audited()


def test_a_failing_test_of_a_policy_refuses(console: Consoled) -> None:
    person = console.signed_in()
    planned = drafted(person, "plan", SHOP.replace("from: role = api,", 'from: "role in (api, web)",'))
    assert "This draft must not be applied" in planned
    assert 'value="apply"' not in planned


def test_a_version_can_wait_to_be_confirmed(console: Consoled) -> None:
    person = console.signed_in()
    expect = value(drafted(person, "plan"), "expect")
    drafted(person, "apply", expect=expect, confirm="300")
    assert "waits to be confirmed; version 1 returns at" in words(person.page("/policies/2"))
    assert "waits for you" in words(person.page("/births"))
    assert person.submit("/policies/confirm", version="2").status_code == 303
    assert "waits to be confirmed" not in person.page("/policies/2")


def test_files_are_added_and_removed_and_a_draft_discarded(console: Consoled) -> None:
    person = console.signed_in()
    added = drafted(person, "add")
    assert [given["value"] for tag, given in elements(added).found if given.get("name") == "name"] == [
        "modes.yaml", "shop.yaml", "policy.yaml",
    ]  # fmt: skip
    assert "modes.yaml" not in words(drafted(person, "remove 0"))
    drafted(person, "discard")
    assert "Draft a change" in person.page("/policies")


def test_labels_are_set_by_name(console: Consoled) -> None:
    person = console.signed_in()
    reply = person.submit("/workloads/labels", workload="docker:host-a:web-1", labels="env=prod  loc=hel1")
    shown = person.page(reply.headers["location"])
    assert "operator admin" in words(shown)
    assert ("admin", "labels", "done") in console.audited()


def test_a_page_of_an_empty_installation_teaches(bare_console: Consoled) -> None:
    person = bare_console.signed_in()
    taught = {
        "/workloads": "Start a container on this host",
        "/policies": "Draft a policy in files",
        "/policies/draft": "Add one: it begins with a small policy",
        "/explain": "Name who would connect",
        "/births": "Start a container: its record says",
        "/findings": "That is not the same as nothing wrong",
        "/points": "sudo stockade up",
        "/search": "Names, labels",
    }
    for path, text in taught.items():
        assert text in words(person.page(path)), path
    assert "no host yet" in words(person.page("/workloads"))


def test_every_page_has_its_command_and_its_call(shared: Consoled) -> None:
    person = shared.signed_in()
    for path in (each.replace("{version}", "1") for each, _ in READ):
        page = person.page(path)
        assert re.search(r"<code>stockade \w+", page), path
        if path not in {"/policies/draft", "/search", "/explain", "/flows", "/flows/store", "/policies/suggest"}:
            assert "curl --unix-socket /run/stockade/api.sock" in page, path


def test_commands_are_quoted_for_a_shell(shared: Consoled) -> None:
    page = shared.signed_in().get("/workloads?select=app+%3D+$(reboot);%60x%60").text
    assert "stockade workloads --select &#39;app = $(reboot);`x`&#39;" in page


def test_every_link_of_every_page_leads_somewhere(shared: Consoled) -> None:
    """Whoever follows every link that is shown comes to no dead end."""
    person = shared.signed_in()
    todo, seen = ["/workloads"], set[str]()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        reply = person.get(path)
        assert reply.status_code == 200, path
        read = elements(reply.text)
        ids = {given["id"] for _, given in read.found if "id" in given}
        for tag, given in read.found:
            if tag != "a":
                continue
            address, _, fragment = given["href"].partition("#")
            assert address or not fragment or fragment in ids, (path, given["href"])
            if address not in {"", "/", *seen}:
                todo.append(address)
    assert len(seen) > 30


def test_the_line_that_a_place_names_is_there(shared: Consoled) -> None:
    person = shared.signed_in()
    page = person.page("/explain?source=web-1&destination=db-1&on=tcp/5432")
    place = next(given["href"] for tag, given in elements(page).found if given.get("class") == "where")
    address, _, line = place.partition("#")
    assert line.replace("%3A", ":") in {given.get("id") for _, given in elements(person.page(address)).found}


def test_an_explanation_says_what_the_command_line_says(shared: Consoled) -> None:
    page = words(shared.signed_in().page("/explain?source=web-1&destination=db-1&on=tcp/5432"))
    assert "Denied" in page
    assert "no rule allows it; mode full denies" in page
    assert 'from Compose service "web"' in page
    assert "To allow it" in page


def test_what_is_not_assessed_is_never_clean(bare_console: Consoled) -> None:
    assert "Nothing was found" not in bare_console.signed_in().page("/findings")


def test_a_page_looks_again_when_something_changed(console: Consoled) -> None:
    person = console.signed_in()
    with person.http.stream("GET", "/live") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = (line for line in stream.iter_lines() if line.startswith("event:"))
        assert next(events) == "event: changed"
        person_2 = console.signed_in()
        person_2.submit("/workloads/labels", workload="web-1", labels="env=test")
        assert next(events) == "event: changed"


def test_streams_of_a_session_are_bounded_and_end_with_it(console: Consoled) -> None:
    person = console.signed_in()
    streams = [person.http.stream("GET", "/live") for _ in range(8)]
    lines = [each.__enter__().iter_lines() for each in streams]
    for each in lines:
        next(each)
    assert person.get("/live").status_code == 429
    person.submit("/sign-out")
    console.do(_ring(console))
    for each in lines:
        assert list(each) is not None
    for each in streams:
        each.__exit__(None, None, None)


async def _ring(console: Consoled) -> None:
    console.installation.controller.changed.ring()


def test_who_is_told_apart_by_name(console: Consoled) -> None:
    person = console.signed_in(ADMIN)
    assert HOST in person.page("/points")
    assert ("admin", "sign-in", "done") in console.audited()
