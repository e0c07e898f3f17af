"""The API as a client sees it: one call a route, values in, values out. The only module that asks it by httpx.

An error of the API, or of the way there, is a ``StockadeError``; nothing else leaves this module.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from stockade.core.model.problem import Problem
from stockade.decoding import ready
from stockade.errors import StockadeError
from stockade.memory import without
from stockade.wire.api import BirthView, ErrorReply, Message, WatchLine
from stockade.wire.flows import FlowView
from stockade.wire.routes import route

with without("click"):  # what httpx needs for a command line of its own
    import httpx

Reply = TypeVar("Reply", bound=Message)

TIMEOUT = 120.0
"""Seconds: a plan over a large inventory takes a while; a server that hangs must not hang us for ever."""
CONNECT_TIMEOUT = 5.0
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""What a Unix socket needs of TLS. httpx would read all authorities instead: some 0.1 s for each client, and a crash
where the program ends while a thread still reads them."""


class Unreachable(StockadeError):  # noqa: N818 - reads as what happened
    """No server answers at the socket."""


class Refused(StockadeError):  # noqa: N818 - reads as what happened
    """The server said no. ``problems`` where documents were refused."""

    def __init__(self, reply: ErrorReply, status: int) -> None:
        super().__init__(reply.error, kept=reply.kept, remedy=reply.remedy)
        self.problems: tuple[Problem, ...] = reply.problems
        self.status = status


def over(path: str) -> httpx.HTTPTransport:
    """Return a way to whoever serves HTTP at a Unix socket."""
    return httpx.HTTPTransport(verify=TRUSTS_NOBODY, uds=path)


class Client:
    """One connection to the API at ``socket``. ``timeout``: seconds that an answer may take."""

    def __init__(self, socket: Path, timeout: float = TIMEOUT) -> None:
        self._socket = socket
        self._http = httpx.Client(
            transport=over(str(socket)),
            base_url="http://stockade",
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
            trust_env=False,
        )

    def call(self, name: str, reply: type[Reply], body: Message | None = None, **parameters: Any) -> Reply:
        """Call the route ``name``. Path and query parameters are given by name; those that are None are left out."""
        with self._errors():
            response = self._http.send(self._request(name, body, parameters))
        _raise_for(response)
        return _decode(response.content, reply)

    def watch(self) -> Iterator[WatchLine]:
        """Yield workloads as they come, change and go, without end."""
        yield from self._watch("workloads")

    def watch_births(self) -> Iterator[BirthView]:
        """Yield births as they come, and again as their records are completed, without end."""
        yield from self._watch("births")

    def watch_flows(self, **parameters: Any) -> Iterator[FlowView]:
        """Yield flows as they are stored, those that the parameters ask for, without end."""
        yield from self._watch("flows", **parameters)

    def _watch(self, name: str, **parameters: Any) -> Iterator[Any]:
        where = route(name)
        query = {key: str(value) for key, value in parameters.items() if value is not None} | {"watch": "1"}
        with self._errors(), self._http.stream("GET", where.path, params=query, timeout=None) as it:
            if it.status_code != httpx.codes.OK:
                it.read()
            _raise_for(it)
            for text in it.iter_lines():
                yield msgspec.json.decode(text, type=ready(where.lines))

    def _request(self, name: str, body: Message | None, parameters: dict[str, Any]) -> httpx.Request:
        where = route(name)
        path, query = where.path, {}
        for each in where.parameters:
            value = parameters.get(each.name)
            if each.path:
                path = path.replace(f"{{{each.name}}}", quote(str(value), safe=""))
            elif value is not None:
                query[each.name] = str(int(value)) if isinstance(value, bool) else str(value)
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        return self._http.build_request(where.method.value, path, params=query, content=content, headers=headers)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as problem:
            raise self._unreachable(problem) from None
        except httpx.TransportError as problem:
            raise StockadeError(
                f"the server at {self._socket} did not answer: {str(problem) or type(problem).__name__}",
                kept="what is in force stays in force; whether the request was carried out is not known",
                remedy="look with: stockade status",
            ) from None

    def _unreachable(self, problem: httpx.ConnectError) -> Unreachable:
        refused = "ermission" in str(problem)
        return Unreachable(
            f"cannot reach Stockade at {self._socket}: {problem}",
            kept="nothing was changed; what is in force stays in force",
            remedy="ask root for access, or use sudo" if refused else "start it: stockade up   (or name its --socket)",
        )


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        reply = msgspec.json.decode(response.content, type=ready(ErrorReply))
    except msgspec.DecodeError:
        reply = ErrorReply(
            error=f"the server answered {response.status_code} and no reason",
            kept="what is in force stays in force",
            remedy="look at the log of stockade up",
        )
    raise Refused(reply, response.status_code)


def _decode(content: bytes, reply: type[Reply]) -> Reply:
    try:
        return msgspec.json.decode(content, type=ready(reply))
    except msgspec.DecodeError as problem:
        raise StockadeError(
            f"the server's answer is not what this command understands: {problem}",
            kept="what is in force stays in force",
            remedy="use the same version of Stockade here as the server: stockade version, stockade status",
        ) from None
