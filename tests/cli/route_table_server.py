"""A server made of the API's own route table: each route answers with the value that a test laid down for it.

It decodes every request with the route's own type and refuses what the route does not know, so that a client which
speaks another language than the table fails.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as WebRoute

from stockade.cli.main import run
from stockade.wire.api import ErrorReply, Message
from stockade.wire.routes import Route


class Server:
    """What it answers with, and what it was asked."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.forget()

    def forget(self) -> None:
        self.answers: dict[str, Message] = {}
        self.lines: list[msgspec.Struct] = []
        self.refusal = 409
        self.streams: dict[str, list[msgspec.Struct]] = {}
        """Lines of routes whose streams stay open: what is added later comes later."""
        self.asked: list[tuple[str, Message | None, dict[str, str]]] = []

    def of(self, name: str) -> tuple[Message | None, dict[str, str]]:
        return next((body, given) for asked, body, given in reversed(self.asked) if asked == name)

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        streams, at = self.streams, 0
        while self.streams is streams:
            lines = streams.get(name, [])
            for each in lines[at:]:
                yield msgspec.json.encode(each) + b"\n"
            at = len(lines)
            await asyncio.sleep(0.02)

    def endpoint(self, route: Route) -> WebRoute:
        async def answer(request: Request) -> Response:
            given = {**request.path_params, **request.query_params}
            if unknown := given.keys() - {each.name for each in route.parameters}:
                return refused(400, f"unknown parameters: {unknown}")
            if missing := {each.name for each in route.parameters if each.required} - given.keys():
                return refused(400, f"missing parameters: {missing}")
            body = msgspec.json.decode(await request.body(), type=route.request) if route.request else None
            self.asked.append((route.name, body, given))
            if given.get("watch") == "1" and self.streams and route.name not in self.answers:
                return StreamingResponse(self.stream(route.name))
            if given.get("watch") == "1" and not self.streams:
                return StreamingResponse(msgspec.json.encode(each) + b"\n" for each in self.lines)
            found = self.answers.get(route.name, ErrorReply(error=f"no answer for {route.name}", remedy="lay one down"))
            return Response(
                msgspec.json.encode(found),
                status_code=self.refusal if isinstance(found, ErrorReply) else 200,
                media_type="application/json",
            )

        return WebRoute(route.path, answer, methods=[route.method.value])


def refused(status: int, why: str) -> Response:
    return Response(msgspec.json.encode(ErrorReply(error=why)), status_code=status)


class Ran(msgspec.Struct):
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class CommandLine:
    """Runs command lines in this process, with a terminal's variables held still."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Ran:
        self._capsys.readouterr()
        code = run(list(arguments))
        done = self._capsys.readouterr()
        return Ran(code, done.out, done.err)
