"""Who may ask at all: hosts, origins, methods; what every response forbids; where the console may listen."""

import httpx
import pytest
from tests.web.consoled import Consoled

from stockade.errors import StockadeError
from stockade.web.guard import HEADERS
from stockade.web.listening import Unbound, bound_console, origin
from stockade.web.pages import READ, WRITTEN

pytestmark = pytest.mark.long

PATHS = [path.replace("{version}", "1") for path, _ in READ]
FORMS = [path.replace("{version}", "1") for path, _ in WRITTEN] + [
    "/sign-out",
    "/settings/theme",
    "/settings/end-others",
]


def guarded(reply: httpx.Response) -> None:
    for name, value in HEADERS.items():
        assert reply.headers.get(name) == value, (reply.request.url, name)
    assert "cache-control" in reply.headers
    assert "server" not in reply.headers
    for cookie in reply.headers.get_list("set-cookie"):
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie


def test_the_policy_allows_nothing_from_elsewhere() -> None:
    policy = HEADERS["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "*" not in policy


def test_every_response_is_guarded(shared: Consoled) -> None:
    person = shared.signed_in()
    stranger = shared.browser()
    asset = next(each for each in person.page("/settings").split('"') if each.startswith("/static/console."))
    replies = [
        person.get(path) for path in [*PATHS, "/", "/nowhere", "/policies/99", "/sign-in", asset, "/static/x.js"]
    ]
    replies += [stranger.get(path) for path in [*PATHS, "/", "/nowhere", "/live", "/sign-in?token=x"]]
    replies += [person.post(path) for path in FORMS]
    replies += [stranger.get("/", headers={"host": "evil.example"}), stranger.request("DELETE", "/")]
    replies += [shared.signed_in().submit("/settings/theme", theme="dark", back="/births")]
    for reply in replies:
        guarded(reply)


def test_pages_are_not_kept_and_assets_are_for_ever(shared: Consoled) -> None:
    person = shared.signed_in()
    page = person.get("/workloads")
    assert page.headers["cache-control"] == "no-store"
    for path in {each for each in page.text.split('"') if each.startswith("/static/")}:
        asset = person.get(path)
        assert asset.status_code == 200, path
        assert "immutable" in asset.headers["cache-control"]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "evil.example:127.0.0.1", "", "u@127.0.0.1",
     "[::1", "127.0.0.1:x", "127.0.0.1/..", "10.0.0.1"],
)  # fmt: skip
def test_another_host_is_refused(shared: Consoled, host: str) -> None:
    """DNS rebinding: a name of somebody else's that leads here."""
    person = shared.signed_in()
    assert person.get("/workloads", host=host).status_code in {400, 403}


@pytest.mark.parametrize("host", ["127.0.0.1:9999", "localhost", "[::1]:7472"])
def test_a_tunnel_may_end_at_another_port(shared: Consoled, host: str) -> None:
    assert shared.signed_in().get("/workloads", host=host).status_code == 200


@pytest.mark.parametrize("path", [*FORMS, "/sign-in"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_another_site_changes_nothing(shared: Consoled, path: str, headers: dict[str, str]) -> None:
    """Even with the cookie and a form's own token."""
    person = shared.signed_in()
    fields = {"csrf": person.token(), "note": "from elsewhere"}
    before = shared.installation.controller.snapshot.version
    assert person.post(path, headers=headers, **fields).status_code == 403
    assert shared.installation.controller.snapshot.version == before
    assert person.get("/settings").status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(shared: Consoled, method: str) -> None:
    assert shared.browser().request(method, "/workloads").status_code == 403


@pytest.mark.parametrize(
    "setting", ["0.0.0.0:7472", "192.0.2.7", "[::]:80", "example.org:80", "127.0.0.1:99999", "7472"]
)
def test_it_listens_on_the_loopback_alone(setting: str) -> None:
    with pytest.raises(StockadeError, match="web console cannot listen"):
        bound_console(setting)


def test_where_it_listens() -> None:
    assert bound_console("off") is None
    first = bound_console("127.0.0.1")
    second = bound_console("localhost")
    assert first is not None
    assert second is not None
    try:
        assert origin(first).startswith("http://127.0.0.1:")
        assert origin(first) != origin(second)
        with pytest.raises(Unbound, match="in use"):
            bound_console(origin(first).removeprefix("http://"))
    finally:
        first.close()
        second.close()
