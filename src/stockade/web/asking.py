"""How a page asks: by the API's own routes and handlers, as its user. There is no second logic and no way around roles.

What was asked is kept, so that the page can show it as an API call and as a command line.
"""

import shlex
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from stockade.controller.http.call import Call, typed
from stockade.controller.http.handlers import HANDLERS
from stockade.controller.installation import Installation
from stockade.controller.refused import Refused, Why
from stockade.wire.api import Caller, Message, Role, StatusReply
from stockade.wire.routes import Method, route

Reply = TypeVar("Reply", bound=Message)
DEFAULT_SOCKET = "/run/stockade/api.sock"


class Asked(msgspec.Struct, frozen=True):
    """One call of the API, to copy."""

    method: Method
    path: str
    socket: str

    @property
    def curl(self) -> str:
        """The call as a command line."""
        method = "" if self.method is Method.GET else f"-X {self.method.value} --json @- "
        return f"curl --unix-socket {shlex.quote(self.socket)} {method}{shlex.quote(f'http://stockade{self.path}')}"


def seen(installation: Installation, *, flows: bool) -> str:
    """Return what names all that has happened so far, with or without the flows that were stored."""
    controller = installation.controller
    taken = controller.flows.taken if flows and controller.flows is not None else None
    return str(controller.changed.rung) if taken is None else f"{controller.changed.rung}.{taken}"


class Desk:
    """One user's way to an installation, for one page."""

    def __init__(self, installation: Installation, caller: Caller) -> None:
        self.installation = installation
        self.caller = caller
        self.asked: list[Asked] = []
        self._status: StatusReply | None = None
        self._rung = seen(installation, flows=False)
        self._rung_by_flows = seen(installation, flows=True)

    def seen(self, *, flows: bool) -> str:
        """Return what had happened before anything was looked at: what happens from then on is told to the page."""
        return self._rung_by_flows if flows else self._rung

    @property
    def may_apply(self) -> bool:
        """Whether the user may change what is enforced."""
        return self.caller.role >= Role.APPLY

    async def ask(
        self,
        name: str,
        reply: type[Reply],
        body: Message | None = None,
        *,
        shown: bool = True,
        which: Mapping[str, str] | None = None,
        **parameters: str,
    ) -> Reply:
        """Call the route ``name`` as the user. Parameters that are empty are left out. ``Refused`` where it says no.

        ``which``: parameters with names that Python keeps to itself, as ``from``.
        """
        where = route(name)
        if self.caller.role < where.role:
            raise Refused(
                Why.FORBIDDEN,
                f"you are signed in as {self.caller.name}, who may look and not apply",
                remedy="Sign in with a link of `stockade console`, from a user who may apply.",
            )
        given = {key: value for key, value in {**(which or {}), **parameters}.items() if value}
        call = Call(self.caller, typed(given, where), body)
        if shown:
            self.asked.append(self._written(name, given))
        answer = await HANDLERS[name](self.installation, call)
        if not isinstance(answer, reply):
            raise TypeError(name)
        return answer

    async def status(self) -> StatusReply:
        """The installation at a glance, as it was when this page first asked."""
        if self._status is None:
            self._status = await self.ask("status", StatusReply, shown=False)
        return self._status

    def _written(self, name: str, given: dict[str, str]) -> Asked:
        where = route(name)
        path, query = where.path, dict(given)
        for each in where.parameters:
            if each.path:
                path = path.replace(f"{{{each.name}}}", quote(query.pop(each.name), safe=""))
        return Asked(where.method, f"{path}?{urlencode(query)}" if query else path, self._socket())

    def _socket(self) -> str:
        return next((each.value for each in self.installation.settings if each.name == "socket"), DEFAULT_SOCKET)


def command(*words: str) -> str:
    """Return a command line of Stockade's, quoted for a shell; empty words are left out."""
    return shlex.join(["stockade", *(word for word in words if word)])
