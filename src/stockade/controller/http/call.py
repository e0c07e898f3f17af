"""One request, decoded: who asks, the parameters by name, the body as a value."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from stockade.controller.refused import Refused, Why
from stockade.decoding import ready
from stockade.wire.api import SCHEMA, Caller, Message
from stockade.wire.routes import LARGEST, Parameter, Route

Body = TypeVar("Body", bound=Message)

LARGEST_BODY = 32 * 1024 * 1024
"""Bytes."""
_WHOLE = re.compile(r"-?[0-9]+", re.ASCII)


class Call(msgspec.Struct, frozen=True):
    """A request after decoding. ``parameters`` holds only those that were given."""

    caller: Caller
    parameters: dict[str, str | int | float | bool]
    body: Message | None = None

    def text(self, name: str, default: str = "") -> str:
        """Return a text parameter."""
        return str(self.parameters.get(name, default))

    def number(self, name: str, default: int) -> int:
        """Return a whole number."""
        return int(self.parameters.get(name, default))

    def seconds(self, name: str) -> float:
        """Return a duration; 0 where it was not given."""
        return float(self.parameters.get(name, 0.0))

    def flag(self, name: str) -> bool:
        """Return whether a switch was given and on."""
        return bool(self.parameters.get(name, False))

    def request(self, kind: type[Body]) -> Body:
        """Return the body, which the route says is a ``kind``."""
        if not isinstance(self.body, kind):
            raise TypeError(kind)
        return self.body


async def decoded(request: Request, route: Route, caller: Caller) -> Call:
    """Read and decode a request. ``Refused`` where it is not what the route takes."""
    body = _body(await _read(request), route.request) if route.request else None
    return Call(caller, typed({**request.query_params, **request.path_params}, route), body)


async def _read(request: Request) -> bytes:
    """Read the body, never more than the bound."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            raise Refused(
                Why.TOO_LARGE,
                f"the request is larger than {LARGEST_BODY // 1024 // 1024} MiB",
                remedy="Send fewer or smaller files.",
            )
        parts.append(part)
    return b"".join(parts)


def _body(content: bytes, kind: type[Message]) -> Message:
    try:
        return msgspec.json.decode(content, type=ready(kind))
    except msgspec.MsgspecError as problem:
        newer = "$.schema" in str(problem)
        raise Refused(
            Why.MALFORMED,
            f"the request is not a {kind.__name__}: {problem}",
            remedy=f"This server speaks schema {SCHEMA}: use its own version of the client."
            if newer
            else "See /openapi.json for what it takes.",
        ) from problem


def typed(given: Mapping[str, str], route: Route) -> dict[str, str | int | float | bool]:
    """Return parameters as the values that the route says they are. ``Refused`` where they are not."""
    by_name = {each.name: each for each in route.parameters}
    if foreign := sorted(set(given) - set(by_name)):
        takes = ", ".join(sorted(by_name)) or "none"
        raise Refused(Why.MALFORMED, f'unknown parameter "{foreign[0]}"', remedy=f"{route.path} takes: {takes}.")
    if missing := [each.name for each in route.parameters if each.required and not given.get(each.name)]:
        raise Refused(Why.MALFORMED, f'parameter "{missing[0]}" is missing', remedy=by_name[missing[0]].summary)
    return {name: _value(by_name[name], text) for name, text in given.items()}


def _value(parameter: Parameter, text: str) -> Any:
    try:
        if parameter.type is int and not _WHOLE.fullmatch(text):
            raise msgspec.ValidationError
        value = msgspec.convert(text, ready(parameter.type), strict=False)
    except msgspec.ValidationError as problem:
        raise Refused(
            Why.MALFORMED,
            f'parameter "{parameter.name}" is "{text}", which is no {parameter.type.__name__}',
            remedy=parameter.summary,
        ) from problem
    if isinstance(value, (int, float)) and not 0 <= value <= LARGEST:
        raise Refused(Why.MALFORMED, f'parameter "{parameter.name}" is out of bounds', remedy=parameter.summary)
    return value
