"""Who is at the other end of a browser: sessions in memory, a cookie that no script can read, a token in every form.

A session begins with a one-time link and ends when its user signs out, after an hour without a request, after twelve
hours, or with the process. What a session may do is what its link was made for; nothing in a request changes that.
"""

import secrets
from collections.abc import Sequence

from itsdangerous import BadSignature, URLSafeSerializer
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import Request
from starlette.responses import Response

from stockade.controller.refused import Refused, Why
from stockade.seams.clock import Clock
from stockade.wire.api import Caller, File

COOKIE = "stockade_session"
IDLE, LONGEST = 3600.0, 12 * 3600.0
"""Seconds."""
MOST = 256
"""Sessions at once; of more the one that was used least lately ends."""
SIGN_INS = RateLimitItemPerMinute(20)
READS, WRITES = RateLimitItemPerMinute(600), RateLimitItemPerMinute(60)


class Session:
    """One signed-in browser. ``draft``: the policy files that its user edits and has not applied."""

    def __init__(self, caller: Caller, now: float) -> None:
        self.id = secrets.token_urlsafe(32)
        self.caller = caller
        self.began = self.used = now
        self.draft: Sequence[File] | None = None
        self.streams = 0
        """Pages of it that are being kept up to date."""
        self.files = 0
        """Files that are being sent to it."""


class Sessions:
    """Every session of this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_id: dict[str, Session] = {}
        key = secrets.token_bytes(32)
        self._cookies = URLSafeSerializer(key, salt="cookie")
        self._forms = URLSafeSerializer(key, salt="form")
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def begin(self, caller: Caller) -> Session:
        """Begin a session."""
        self._sweep()
        while len(self._by_id) >= MOST:
            del self._by_id[min(self._by_id, key=lambda each: self._by_id[each].used)]
        session = Session(caller, self._clock.monotonic())
        self._by_id[session.id] = session
        return session

    def end(self, session: Session) -> None:
        """End a session; its cookie is worth nothing from now on."""
        self._by_id.pop(session.id, None)

    def end_others(self, session: Session) -> int:
        """End every other session of the same user; return how many there were."""
        others = [each for each in self.of_user(session.caller) if each is not session]
        for each in others:
            self.end(each)
        return len(others)

    def of_user(self, caller: Caller) -> list[Session]:
        """Return a user's sessions, oldest first."""
        return [each for each in self._by_id.values() if each.caller.uid == caller.uid]

    def living(self, session: Session) -> bool:
        """Tell whether a session has not ended."""
        return self._by_id.get(session.id) is session and not self._over(session)

    def of(self, request: Request) -> Session | None:
        """Return the session of a request's cookie, and keep it alive."""
        try:
            id_ = self._cookies.loads(request.cookies.get(COOKIE, ""))
        except BadSignature:
            return None
        session = self._by_id.get(id_) if isinstance(id_, str) else None
        if session is None or self._over(session):
            return None
        session.used = self._clock.monotonic()
        return session

    def give(self, response: Response, session: Session) -> None:
        """Put a session's cookie into a response."""
        value = self._cookies.dumps(session.id)
        response.set_cookie(COOKIE, str(value), max_age=int(LONGEST), httponly=True, samesite="strict", path="/")

    def token(self, session: Session) -> str:
        """Return what every form of a session carries."""
        return str(self._forms.dumps(session.id))

    def check(self, session: Session, token: str) -> None:
        """Refuse a form that is not this session's own."""
        try:
            good = self._forms.loads(token) == session.id
        except BadSignature:
            good = False
        if not good:
            raise Refused(
                Why.FORBIDDEN, "this form is not of your session", remedy="Load the page again, and try again."
            )

    def pace(self, session: Session, *, writing: bool) -> None:
        """Refuse what comes faster than a person and a page can."""
        limit = WRITES if writing else READS
        if not self._limiter.hit(limit, "write" if writing else "read", session.id):
            raise TooOften(f"more than {limit.amount} requests a minute")

    def missed(self) -> None:
        """Count a link that was none."""
        self._limiter.hit(SIGN_INS, "sign-in")

    def pace_sign_ins(self) -> None:
        """Refuse guesses where many missed: everybody on the loopback is one."""
        if not self._limiter.test(SIGN_INS, "sign-in"):
            raise TooOften(f"more than {SIGN_INS.amount} links that were none within a minute")

    def _over(self, session: Session) -> bool:
        now = self._clock.monotonic()
        return now - session.used > IDLE or now - session.began > LONGEST

    def _sweep(self) -> None:
        self._by_id = {id_: each for id_, each in self._by_id.items() if not self._over(each)}


class TooOften(Refused):
    """Asked more often than is served."""

    def __init__(self, message: str) -> None:
        super().__init__(Why.FORBIDDEN, message, remedy="Wait a minute, and try again.")
