"""The ASGI application, built from the route table: every route, its role, its errors as values."""

from collections.abc import Awaitable, Callable

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as Path

from stockade.controller.http.call import Call, decoded
from stockade.controller.http.flow_handlers import asked_flows, kept_flows
from stockade.controller.http.handlers import HANDLERS
from stockade.controller.http.openapi import document
from stockade.controller.http.peers import PEER, Access
from stockade.controller.installation import Installation
from stockade.controller.metrics import exposition
from stockade.controller.refused import Refused, Why
from stockade.controller.watch import watched, watched_births, watched_flows
from stockade.errors import StockadeError
from stockade.logs import log_of
from stockade.seams.flow_store import FlowsRefused, FlowStoreFailed
from stockade.seams.store import StoreFailed
from stockade.wire.api import Caller, ErrorReply, Role
from stockade.wire.routes import ROUTES, Media, Route

log = log_of("http")

Endpoint = Callable[[Request], Awaitable[Response]]
ROLE_NEEDED = {Role.READ: "read", Role.APPLY: "apply"}


def application(installation: Installation, access: Access) -> Starlette:
    """Return the application. Peers come from ``PeerProtocol``; without one nobody may do anything."""
    return Starlette(
        routes=[_path(route, installation, access) for route in ROUTES],
        exception_handlers={HTTPException: _no_such_path},
    )


def _path(route: Route, installation: Installation, access: Access) -> Path:
    path = route.path
    for each in route.parameters:
        if each.path:  # a workload's id may hold slashes
            path = path.replace(f"{{{each.name}}}", f"{{{each.name}:path}}")
    return Path(path, _endpoint(route, installation, access), methods=[route.method.value])


def _endpoint(route: Route, installation: Installation, access: Access) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            caller = _admitted(request, route, access)
            return await _answer(route, installation, await decoded(request, route, caller))
        except StockadeError as problem:
            return _refusal(problem)
        except OverflowError as problem:
            log.info("overflow", route=route.name, detail=str(problem))
            return _refusal(Refused(Why.MALFORMED, "a number in the request is larger than any that can be kept"))
        except Exception:
            log.exception("unforeseen", route=route.name)
            return _unforeseen()

    return endpoint


def _admitted(request: Request, route: Route, access: Access) -> Caller:
    """Return who asks, where the role suffices."""
    peer = getattr(request.state, PEER, None)
    caller = access.caller(peer) if peer is not None else Caller(name="unknown", uid=-1, role=Role.NOBODY)
    if caller.role < route.role:
        log.warning("forbidden", route=route.name, user=caller.name, uid=caller.uid)
        raise Refused(
            Why.FORBIDDEN,
            f"user {caller.name} may not {ROLE_NEEDED[route.role]}",
            remedy="Ask root for membership of the group that may, or use sudo.",
        )
    return caller


async def _answer(route: Route, installation: Installation, call: Call) -> Response:
    if route.name == "metrics":
        return Response(
            exposition(installation.controller, installation.exporters),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )
    if route.name == "openapi":
        return _json(document())
    if route.name == "workloads" and call.flag("watch"):
        return StreamingResponse(watched(installation.controller), media_type=Media.LINES.value)
    if route.name == "births" and call.flag("watch"):
        return StreamingResponse(watched_births(installation.controller), media_type=Media.LINES.value)
    if route.name == "flows" and call.flag("watch"):
        flows, where = kept_flows(installation), asked_flows(installation, call)
        return StreamingResponse(watched_flows(installation.controller, flows, where), media_type=Media.LINES.value)
    return _json(await HANDLERS[route.name](installation, call))


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type=Media.JSON.value)


def _refusal(problem: StockadeError) -> Response:
    problems = problem.problems if isinstance(problem, Refused) else ()
    kept = problem.kept or "Nothing was changed."
    reply = ErrorReply(error=problem.message, kept=kept, remedy=problem.remedy, problems=problems)
    return _json(reply, status_of(problem))


def status_of(problem: StockadeError) -> int:
    """Return the HTTP status: what the store says is the server's trouble, all else that was asked for is not."""
    match problem:
        case Refused():
            return int(problem.why)
        case FlowsRefused():
            return int(Why.INVALID)
        case StoreFailed() | FlowStoreFailed():
            return 503
        case _:
            return int(Why.INVALID)


def _unforeseen() -> Response:
    reply = ErrorReply(
        error="something unforeseen went wrong in Stockade; its log has the details",
        kept="What was in force stays in force.",
        remedy="Look at the log of `stockade up`, and report it.",
    )
    return _json(reply, 500)


async def _no_such_path(_request: Request, problem: Exception) -> Response:
    status = problem.status_code if isinstance(problem, HTTPException) else 500
    what = {404: "there is no such path", 405: "this path does not take that method"}.get(status, str(problem))
    return _json(
        ErrorReply(error=what, kept="Nothing was changed.", remedy="/openapi.json lists what there is."), status
    )
