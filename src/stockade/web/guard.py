"""What holds for every request and response of the console, whatever page it is for.

A request that names another host than the loopback (DNS rebinding), or that another site sent (CSRF), goes no further.
Every response, errors included, forbids all that the console does not use itself.
"""

from collections.abc import MutableMapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names that no other site can have. The port is free: a tunnel may end at another one."""
SAFE = frozenset({"GET", "HEAD"})
METHODS = SAFE | {"POST"}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not `no-referrer`: with it a browser sends a form with the origin `null`.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
PRIVATE = {"cache-control": "no-store"}
"""Unless the response says how it may be kept."""


class Guard:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on; add the headers either way."""
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(message)
            await send(message)

        if refusal := refused(scope["method"], Headers(scope=scope)):
            await PlainTextResponse(f"{refusal}\nNothing was changed.\n", 403)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


def refused(method: str, headers: Headers) -> str:
    """Say why a request goes no further; empty where it may."""
    host = headers.get("host", "")
    if method not in METHODS:
        return f"The console takes no {method[:16]}."
    if len(headers.getlist("host")) != 1 or _name(host) not in LOOPBACK:
        return "The console answers to 127.0.0.1, localhost and [::1] alone."
    if method in SAFE:
        return ""
    if headers.get("origin") != f"http://{host}" or headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return "This was not sent from a page of the console."
    return ""


def _name(host: str) -> str:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    return "" if parts.username or parts.path or parts.query or parts.fragment else parts.hostname or ""


def _add_headers(message: MutableMapping[str, object]) -> None:
    given: list[tuple[bytes, bytes]] = list(message.get("headers", ()))  # type: ignore[call-overload]
    names = {name.lower() for name, _ in given}
    wanted = {**PRIVATE, **HEADERS}
    given += [(name.encode(), value.encode()) for name, value in wanted.items() if name.encode() not in names]
    message["headers"] = given
