"""One-time links into the web console: made for whoever asks over the API's socket, each good once and for minutes.

What is kept of a link is a hash of its token. Nothing is stored: a restart ends every link.
"""

import hashlib
import hmac
import secrets

import msgspec

from stockade.controller.refused import Refused, Why
from stockade.seams.clock import Clock
from stockade.wire.api import Caller, Role

LIFE = 600.0
"""Seconds in which a link may be used."""
MOST = 64
"""Links that wait to be used; of more the oldest end."""
TOKEN_BYTES = 32


class Issued(msgspec.Struct, frozen=True):
    """A link that waits: for whom, and until when on the steady clock."""

    caller: Caller
    until: float


class LinkBook:
    """Every link that has been made and not used."""

    def __init__(self, origin: str, clock: Clock) -> None:
        self.origin = origin
        """``http://127.0.0.1:PORT``"""
        self._clock = clock
        self._issued: dict[bytes, Issued] = {}

    def issue(self, caller: Caller, *, read_only: bool = False) -> tuple[str, Caller]:
        """Return a link, and who its user will be: the caller, with at most the caller's role."""
        if caller.role < Role.READ:
            raise Refused(Why.FORBIDDEN, f"user {caller.name} may not read")
        user = msgspec.structs.replace(caller, role=Role.READ) if read_only else caller
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._sweep()
        while len(self._issued) >= MOST:
            del self._issued[next(iter(self._issued))]
        self._issued[_digest(token)] = Issued(user, self._clock.monotonic() + LIFE)
        return f"{self.origin}/sign-in?token={token}", user

    def look(self, token: str) -> Caller | None:
        """Return whom a link is for, and leave it."""
        found = self._find(token)
        return self._issued[found].caller if found else None

    def redeem(self, token: str) -> Caller | None:
        """Return whom a link is for, once; None where it is none, was used, or is too old."""
        found = self._find(token)
        return self._issued.pop(found).caller if found else None

    def _find(self, token: str) -> bytes | None:
        """Compare with every link, so that how long it takes tells nothing."""
        self._sweep()
        wanted = _digest(token)
        return next((each for each in [*self._issued] if hmac.compare_digest(each, wanted)), None)

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        self._issued = {digest: each for digest, each in self._issued.items() if each.until > now}


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
