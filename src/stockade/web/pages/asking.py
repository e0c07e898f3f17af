"""What a page was asked: the query and path of its address, and the session of who asks."""

from collections.abc import Mapping

from stockade.controller.refused import Refused, Why
from stockade.web.sessions import Session

LARGEST = 10_000_000


class Asking:
    """Texts by name; an absent one is empty."""

    def __init__(self, given: Mapping[str, str], session: Session) -> None:
        self._given = given
        self.session = session

    def text(self, name: str) -> str:
        """Return a text, without space around it."""
        return self._given.get(name, "").strip()

    def number(self, name: str, default: int) -> int:
        """Return a whole number that is not negative. ``Refused`` where it is none."""
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and int(text[:20]) <= LARGEST):
            raise Refused(Why.MALFORMED, f'"{name}" is "{text[:40]}", which is no number that can be shown')
        return int(text)
