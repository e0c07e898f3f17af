"""Links, sessions, tokens of forms, roles, paces: who is who, and for how long."""

import re

import pytest
from tests.controller.controlled import FILES, StandingClock
from tests.web.consoled import ADMIN, READER, Consoled
from tests.web.test_console_guard import FORMS, PATHS

from stockade.controller import links
from stockade.controller.links import LinkBook
from stockade.controller.refused import Refused
from stockade.web import sessions
from stockade.web.sessions import COOKIE, Sessions, TooOften
from stockade.wire.api import Caller, File, Role

pytestmark = pytest.mark.long

NOBODY = Caller(name="stranger", uid=1002, role=Role.NOBODY)


def test_a_link_is_good_once(console: Consoled) -> None:
    token = console.link().partition("token=")[2]
    first, second = console.signed_in(), console.signed_in(READER)
    assert "admin" in first.get(f"/sign-in?token={token}").text  # to look uses nothing up
    assert second.post("/sign-in", token=token).status_code == 303
    assert first.post("/sign-in", token=token).status_code == 401
    assert first.get(f"/sign-in?token={token}").status_code == 401


def test_a_link_is_good_for_minutes() -> None:
    clock = StandingClock()
    book = LinkBook("http://127.0.0.1:1", clock)
    link, _ = book.issue(ADMIN)
    token = link.partition("token=")[2]
    clock.steady += links.LIFE - 1
    assert book.look(token) == ADMIN
    clock.steady += 1
    assert book.redeem(token) is None


def test_links_are_bounded_and_differ() -> None:
    book = LinkBook("http://127.0.0.1:1", StandingClock())
    tokens = [book.issue(ADMIN)[0].partition("token=")[2] for _ in range(links.MOST + 1)]
    assert len(set(tokens)) == len(tokens)
    assert book.redeem(tokens[0]) is None
    assert book.redeem(tokens[-1]) == ADMIN


@pytest.mark.parametrize("token", ["", "x", "\ud800", "a" * 10_000, "null"])
def test_what_is_no_link_signs_nobody_in(token: str) -> None:
    book = LinkBook("http://127.0.0.1:1", StandingClock())
    book.issue(ADMIN)
    assert book.redeem(token) is None


def test_a_link_gives_no_more_than_its_maker_may() -> None:
    book = LinkBook("http://127.0.0.1:1", StandingClock())
    assert book.issue(READER)[1].role is Role.READ
    assert book.issue(ADMIN, read_only=True)[1].role is Role.READ
    with pytest.raises(Refused):
        book.issue(NOBODY)


def test_sessions_end_by_time() -> None:
    clock = StandingClock()
    book = Sessions(clock)
    idle, used = book.begin(ADMIN), book.begin(ADMIN)
    clock.steady += sessions.IDLE
    used.used = clock.steady
    clock.steady += 1
    assert not book.living(idle)
    assert book.living(used)
    used.used = clock.steady = used.began + sessions.LONGEST + 1
    assert not book.living(used)


def test_the_least_used_session_makes_room() -> None:
    clock = StandingClock()
    book = Sessions(clock)
    first = book.begin(ADMIN)
    for _ in range(sessions.MOST):
        clock.steady += 0.001
        newest = book.begin(READER)
    assert not book.living(first)
    assert book.living(newest)


def test_paces() -> None:
    book = Sessions(StandingClock())
    one, other = book.begin(ADMIN), book.begin(ADMIN)
    for _ in range(sessions.WRITES.amount):
        book.pace(one, writing=True)
    with pytest.raises(TooOften):
        book.pace(one, writing=True)
    book.pace(other, writing=True)
    for _ in range(sessions.SIGN_INS.amount):
        book.pace_sign_ins()
        book.missed()
    with pytest.raises(TooOften):
        book.pace_sign_ins()


def test_guesses_are_slowed(console: Consoled) -> None:
    stranger = console.browser()
    codes = {stranger.get(f"/sign-in?token={number}").status_code for number in range(sessions.SIGN_INS.amount + 1)}
    assert codes == {401, 429}


@pytest.mark.parametrize("path", PATHS)
def test_without_a_session_no_page(shared: Consoled, path: str) -> None:
    stranger = shared.browser()
    reply = stranger.get(path)
    assert (reply.status_code, reply.headers.get("location")) == (303, "/sign-in")
    assert "db-1" not in reply.text
    replacing = stranger.get(path, headers={"hx-request": "true"})
    assert (replacing.status_code, replacing.headers["hx-redirect"]) == (401, "/sign-in")
    assert stranger.get("/live").status_code == 401


@pytest.mark.parametrize("path", FORMS)
def test_without_a_session_no_form(shared: Consoled, path: str) -> None:
    stranger = shared.browser()
    assert stranger.post(path, headers={"origin": shared.origin}, data={"csrf": "x"}).status_code == 401


@pytest.mark.parametrize("made_up", ["", "x", "admin", "eyJ9.abc", '"', "a" * 4000])
def test_a_made_up_cookie_is_nobody(shared: Consoled, made_up: str) -> None:
    stranger = shared.browser()
    assert stranger.get("/workloads", headers={"cookie": f"{COOKIE}={made_up}"}).status_code == 303


@pytest.mark.parametrize("path", FORMS)
def test_the_form_of_another_session_changes_nothing(console: Consoled, path: str) -> None:
    mine, others = console.signed_in(), console.signed_in(READER).token()
    before = console.audited()
    for token in (others, "", "x", mine.token()[:-1]):
        assert mine.post(path, csrf=token, step="apply").status_code == 403
    assert console.audited() == before


def test_a_cookie_is_worth_nothing_after_sign_out(console: Consoled) -> None:
    person = console.signed_in()
    kept = person.http.cookies[COOKIE]
    assert person.submit("/sign-out").status_code == 303
    assert console.browser().get("/workloads", headers={"cookie": f"{COOKIE}={kept}"}).status_code == 303
    assert [each[:2] for each in console.audited()[:2]] == [("admin", "sign-out"), ("admin", "sign-in")]


def test_other_sessions_can_be_ended(console: Consoled) -> None:
    here, there, hers = console.signed_in(), console.signed_in(), console.signed_in(READER)
    assert here.submit("/settings/end-others").status_code == 303
    assert [each.get("/workloads").status_code for each in (here, there, hers)] == [200, 303, 200]


def test_signing_in_anew_ends_the_old_session(console: Consoled) -> None:
    person = console.signed_in()
    old = person.http.cookies[COOKIE]
    person.post("/sign-in", token=console.link().partition("token=")[2])
    assert console.browser().get("/workloads", headers={"cookie": f"{COOKIE}={old}"}).status_code == 303


CHANGES: dict[str, dict[str, str]] = {
    "/policies/0/rollback": {"note": "x"},
    "/policies/confirm": {"version": "1"},
    "/workloads/labels": {"workload": "web-1", "labels": "env=prod"},
}


@pytest.mark.parametrize("path", CHANGES)
def test_who_may_look_changes_nothing(console: Consoled, path: str) -> None:
    reader = console.signed_in(ADMIN, read_only=True)
    before = console.installation.controller.snapshot
    reply = reader.submit(path, **CHANGES[path])
    assert reply.status_code == 403
    assert "may look and not apply" in reply.text
    assert console.installation.controller.snapshot is before


def test_who_may_look_plans_and_does_not_apply(console: Consoled) -> None:
    reader = console.signed_in(READER)
    files = {"name": [each.name for each in FILES[:1]], "text": [each.text for each in FILES[:1]]}
    planned = reader.submit("/policies/draft", step="plan", **files)
    assert planned.status_code == 200
    assert 'value="apply"' not in planned.text
    version = console.installation.controller.snapshot.version
    refused = reader.submit("/policies/draft", step="apply", expect="x", **files)
    assert "may look and not apply" in refused.text
    assert console.installation.controller.snapshot.version == version


@pytest.mark.parametrize("path", PATHS)
def test_who_may_look_sees_every_page_and_no_form_that_changes(shared: Consoled, path: str) -> None:
    page = shared.signed_in(READER).page(path)
    actions = set(re.findall(r'method="post" action="([^"]+)"', page))
    assert actions <= {"/policies/draft", "/policies/suggest", "/sign-out", "/settings/theme", "/settings/end-others"}
    assert 'value="apply"' not in page


def test_drafts_are_of_a_session(console: Consoled) -> None:
    mine, hers = console.signed_in(), console.signed_in()
    secret = File("mine.yaml", "# only mine")
    mine.submit("/policies/draft", step="plan", name=secret.name, text=secret.text)
    assert "# only mine" in mine.page("/policies/draft")
    assert "# only mine" not in hers.page("/policies/draft")
