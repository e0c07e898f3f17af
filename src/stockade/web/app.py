"""The console as an ASGI application: sign-in, pages, live updates, assets. Each page knows its user's role.

Who is not signed in sees the sign-in page alone; a form that is not of the session changes nothing; every error is a
page.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from stockade.controller.http.app import status_of
from stockade.controller.installation import Installation
from stockade.controller.refused import Refused, Why
from stockade.errors import StockadeError
from stockade.logs import log_of
from stockade.seams.store import Commit, Entry
from stockade.web import completing, exporting, live, pages
from stockade.web.asking import Desk
from stockade.web.assets import by_path
from stockade.web.forms import Form, read_form
from stockade.web.frame import THEMES, Data, Frame, Goto, View, bare, rendered
from stockade.web.guard import Guard
from stockade.web.sessions import Session, Sessions, TooOften
from stockade.wire.api import Role

log = log_of("console")

THEME = "stockade_theme"
A_YEAR = 365 * 86_400
FOR_EVER = {"cache-control": f"public, max-age={A_YEAR}, immutable"}
HOME = pages.map_page.PATH
MAY = {Role.READ: "may look and not apply", Role.APPLY: "may apply"}

Endpoint = Callable[[Request], Awaitable[Response]]


def application(installation: Installation, over: asyncio.Event) -> Guard:
    """Return the application. ``over``: it ends, and with it every stream."""
    console = _Console(installation, over)
    app = Starlette(
        routes=[
            Route("/", console.home),
            Route("/sign-in", console.sign_in, methods=["GET", "POST"]),
            Route("/sign-out", console.form(console.sign_out), methods=["POST"]),
            Route("/settings/theme", console.form(console.theme), methods=["POST"]),
            Route("/settings/end-others", console.form(console.end_others), methods=["POST"]),
            Route("/live", console.live),
            Route(exporting.PATH, console.export),
            Route("/static/{name:path}", console.asset),
            Route(completing.PATH, console.completion, methods=["POST"]),
            *(Route(path, console.page(build)) for path, build in (*pages.READ, *pages.PARTS)),
            *(Route(path, console.form(console.written(build)), methods=["POST"]) for path, build in pages.WRITTEN),
        ],
        exception_handlers={HTTPException: console.nowhere, 500: console.unforeseen},
    )
    return Guard(app)  # outermost: what goes wrong within is guarded, too


class _Console:
    def __init__(self, installation: Installation, over: asyncio.Event) -> None:
        self._installation = installation
        self._over = over
        self._sessions = Sessions(installation.controller.clock)

    # Who is not signed in

    async def home(self, _request: Request) -> Response:
        return RedirectResponse(HOME, 303)

    async def asset(self, request: Request) -> Response:
        found = by_path().get(request.url.path)
        if found is None:
            return Response("There is no such file.\n", 404, media_type="text/plain")
        return Response(found.content, 200, FOR_EVER, found.media)

    async def sign_in(self, request: Request) -> Response:
        """Show whom a link is for; the link is used up when its user says so, not by looking at it."""
        try:
            self._sessions.pace_sign_ins()
            if request.method == "POST":
                return await self._begin(request, (await read_form(request)).text("token"))
        except StockadeError as problem:
            return self._outside(request, problem, 429 if isinstance(problem, TooOften) else status_of(problem))
        token = request.query_params.get("token", "")
        links = self._installation.links
        caller = links.look(token) if links and token else None
        if caller is None:
            if token:
                self._sessions.missed()
            return self._outside(request, _no_link(token), 401 if token else 200)
        return bare("sign_in.html", _theme(request), problem=None, caller=caller, may=MAY[caller.role], token=token)

    async def _begin(self, request: Request, token: str) -> Response:
        links = self._installation.links
        caller = links.redeem(token) if links else None
        if caller is None:
            self._sessions.missed()
            log.warning("sign-in refused")
            return self._outside(request, _no_link("used"), 401)
        if before := self._sessions.of(request):
            self._sessions.end(before)
        session = self._sessions.begin(caller)
        await self._note(Entry(caller.name, "sign-in", "console", detail=MAY[caller.role], uid=caller.uid))
        response = RedirectResponse(HOME, 303)
        self._sessions.give(response, session)
        return response

    def _outside(self, request: Request, problem: StockadeError, status: int) -> Response:
        return bare("sign_in.html", _theme(request), status, problem=problem, caller=None, may="", token="")

    def _to_sign_in(self, request: Request) -> Response:
        if request.headers.get("hx-request"):
            return Response(status_code=401, headers={"hx-redirect": "/sign-in"})
        if request.method == "GET" and not request.url.path.startswith("/live"):
            return RedirectResponse("/sign-in", 303)
        return self._outside(request, _no_link(""), 401)

    # Who is

    def page(self, build: pages.Build) -> Endpoint:
        """Return the endpoint of a page that is read."""

        async def endpoint(request: Request) -> Response:
            session = self._sessions.of(request)
            if session is None:
                return self._to_sign_in(request)
            try:
                self._sessions.pace(session, writing=False)
            except StockadeError as problem:
                return await self._shown(request, session, Desk(self._installation, session.caller), _failed(problem))
            return await asyncio.to_thread(asyncio.run, self._read(request, session, build))

        return endpoint

    async def _read(self, request: Request, session: Session, build: pages.Build) -> Response:
        """Build and lay out a page that is read.

        In a thread and a loop of its own: it looks at values that do not change, takes its time over many of them, and
        must not keep the loop from those who are being born.
        """
        desk = Desk(self._installation, session.caller)
        try:
            view = await build(desk, pages.Asking({**request.query_params, **request.path_params}, session))
        except Exception as problem:  # noqa: BLE001 - every error is a page
            view = _failed(problem)
        if isinstance(view, Data):
            return Response(view.content, view.status, media_type="application/json")
        return await self._laid_out(request, session, desk, view)

    def form(self, act: Callable[[Request, Session, Form], Awaitable[Response]]) -> Endpoint:
        """Return the endpoint of a form: of this session, read within bounds, not too often."""

        async def endpoint(request: Request) -> Response:
            session = self._sessions.of(request)
            if session is None:
                return self._to_sign_in(request)
            try:
                self._sessions.pace(session, writing=True)
                form = await read_form(request)
                self._sessions.check(session, form.text("csrf"))
                return await act(request, session, form)
            except Exception as problem:  # noqa: BLE001 - every error is a page
                return await self._shown(request, session, Desk(self._installation, session.caller), _failed(problem))

        return endpoint

    def written(self, build: pages.Write) -> Callable[[Request, Session, Form], Awaitable[Response]]:
        """Return what a form of a page does."""

        async def act(request: Request, session: Session, form: Form) -> Response:
            desk = Desk(self._installation, session.caller)
            view = await build(desk, pages.Asking(dict(request.path_params), session), form)
            if isinstance(view, Goto):
                return RedirectResponse(view.path, 303)
            return await self._shown(request, session, desk, view)

        return act

    async def sign_out(self, _request: Request, session: Session, _form: Form) -> Response:
        self._sessions.end(session)
        await self._note(Entry(session.caller.name, "sign-out", "console", uid=session.caller.uid))
        return RedirectResponse("/sign-in", 303)

    async def end_others(self, _request: Request, session: Session, _form: Form) -> Response:
        self._sessions.end_others(session)
        return RedirectResponse(pages.settings.PATH, 303)

    async def theme(self, _request: Request, _session: Session, form: Form) -> Response:
        response = RedirectResponse(_local(form.text("back")), 303)
        wanted = form.text("theme")
        if wanted in THEMES:
            response.set_cookie(THEME, wanted, max_age=A_YEAR, httponly=True, samesite="strict", path="/")
        return response

    async def live(self, request: Request) -> Response:
        session = self._sessions.of(request)
        if session is None:
            return self._to_sign_in(request)
        if session.streams >= live.MOST_STREAMS:
            return Response("Too many pages of this session are being kept up to date.\n", 429)
        flows = bool(request.query_params.get("flows"))
        return StreamingResponse(self._changes(session, flows=flows), media_type="text/event-stream")

    async def _changes(self, session: Session, *, flows: bool) -> Any:
        session.streams += 1
        try:
            living = partial(self._goes_on, session)
            async for each in live.changes(self._installation, living, flows=flows):
                yield each
        finally:
            session.streams -= 1

    async def export(self, request: Request) -> Response:
        """Send flows as a file."""
        session = self._sessions.of(request)
        if session is None:
            return self._to_sign_in(request)
        desk = Desk(self._installation, session.caller)
        try:
            self._sessions.pace(session, writing=True)
            if session.files >= exporting.AT_ONCE:
                raise TooOften(f"more than {exporting.AT_ONCE} files at once")
            asking = pages.Asking(dict(request.query_params), session)
            file = await asyncio.to_thread(exporting.exported, desk, asking)
        except Exception as problem:  # noqa: BLE001 - every error is a page
            return await self._shown(request, session, desk, _failed(problem))
        named = {"content-disposition": f'attachment; filename="{file.name}"'}
        return StreamingResponse(self._sent(session, file), media_type=file.media, headers=named)

    async def _sent(self, session: Session, file: exporting.Exported) -> Any:
        session.files += 1
        try:
            async for part in iterate_in_threadpool(file.parts):
                yield part
        finally:
            session.files -= 1

    async def completion(self, request: Request) -> Response:
        """Say what may stand where somebody writes in a policy file: for a script, in JSON."""
        session = self._sessions.of(request)
        if session is None:
            return Response(status_code=401)
        try:
            self._sessions.pace(session, writing=False)
            form = await read_form(request)
            self._sessions.check(session, form.text("csrf"))
            found = await asyncio.to_thread(completing.completed, self._installation, form)
        except StockadeError as problem:
            return Response(problem.message, 429 if isinstance(problem, TooOften) else status_of(problem))
        return Response(found, media_type="application/json")

    def _goes_on(self, session: Session) -> bool:
        return not self._over.is_set() and self._sessions.living(session)

    async def _shown(self, request: Request, session: Session, desk: Desk, view: View) -> Response:
        return await asyncio.to_thread(asyncio.run, self._laid_out(request, session, desk, view))

    async def _laid_out(self, request: Request, session: Session, desk: Desk, view: View) -> Response:
        search = request.query_params.get("q", "") if request.url.path == pages.search.PATH else ""
        frame = Frame(_theme(request), self._sessions.token(session), search)
        try:
            return await rendered(desk, frame, view)
        except Exception as problem:  # noqa: BLE001 - every error is a page
            return await rendered(desk, frame, _failed(problem))

    async def _note(self, entry: Entry) -> None:
        controller = self._installation.controller
        await controller.exclusively(lambda: controller.commit(Commit(audit=(entry,))))

    # Where nothing is

    async def nowhere(self, request: Request, problem: Exception) -> Response:
        status = problem.status_code if isinstance(problem, HTTPException) else 500
        session = self._sessions.of(request)
        if session is None:
            return self._to_sign_in(request)
        what = Refused(Why.UNKNOWN, "there is no such page", remedy="The rail lists what there is.")
        view = _refusal(what, status)
        return await self._shown(request, session, Desk(self._installation, session.caller), view)

    async def unforeseen(self, request: Request, problem: Exception) -> Response:
        log.error("unforeseen", path=request.url.path, exc_info=problem)
        return bare("sign_in.html", _theme(request), 500, problem=_unforeseen(), caller=None, may="", token="")


def _failed(problem: Exception) -> View:
    """Return the page of an error. What nobody foresaw is logged, and shows nothing of the program."""
    if isinstance(problem, TooOften):
        return _refusal(problem, 429)
    if isinstance(problem, StockadeError):
        return _refusal(problem, status_of(problem))
    log.error("unforeseen", exc_info=problem)
    return _refusal(_unforeseen(), 500)


def _refusal(problem: StockadeError, status: int) -> View:
    problems = problem.problems if isinstance(problem, Refused) else ()
    return View("", "Not done", "refused.html", {"problem": problem, "problems": problems}, status=status)


def _unforeseen() -> StockadeError:
    return StockadeError(
        "something unforeseen went wrong in Stockade; its log has the details",
        kept="What was in force stays in force.",
        remedy="Look at the log of `stockade up`, and report it.",
    )


def _no_link(token: str) -> StockadeError:
    what = (
        "this link was used already, is older than ten minutes, or never was one" if token else "you are not signed in"
    )
    return StockadeError(what, kept="", remedy="Make a link, as a user who may use Stockade:  stockade console")


def _theme(request: Request) -> str:
    chosen = request.cookies.get(THEME, "")
    return chosen if chosen in THEMES else THEMES[0]


def _local(path: str) -> str:
    """Return a path of the console, whatever a form says."""
    parts = urlsplit(path)
    good = path.startswith("/") and not parts.scheme and not parts.netloc and "\\" not in path and path.isprintable()
    return path if good and not path.startswith("//") else HOME
