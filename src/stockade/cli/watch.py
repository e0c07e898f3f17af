"""``stockade watch``: what goes on, live."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from stockade.cli.client import Client, Refused
from stockade.cli.exits import Exit
from stockade.cli.explain import explain_view
from stockade.cli.flows import Decider, End, Host, On, OpenedTo, Process, Source, To, Verdicts, ViaWay
from stockade.cli.output import Line, line, remark, show
from stockade.cli.session import connect
from stockade.cli.settings import NO_FLAGS, Common, Format
from stockade.cli.terminal import Terminal, is_terminal, whole_screen
from stockade.cli.watch_board import Board, Edge, Told, Wish
from stockade.cli.watch_screen import flow_line, screen, told_line
from stockade.errors import StockadeError
from stockade.wire.api import BirthView, ExplainReply, FindingsReply, StatusReply
from stockade.wire.flows import FlowView

LOOK, AGAIN = 2.0, 2.0
"""Seconds between looks at the installation, and until what ended is followed again."""
TICK = 0.5
"""Seconds until the screen is drawn again where nothing happens."""
INSTALLATION, FLOWS, BIRTHS = "installation", "flows", "births"
"""What is followed."""
MISTAKEN = (400, 422)
"""How the server refuses a filter that means nothing; whatever else it refuses may be taken later."""
WAITING = 10_000
"""Things that wait to be shown; of more, the newest are missed."""


class Looked(msgspec.Struct, frozen=True):
    """The installation as it was just now."""

    status: StatusReply
    findings: FindingsReply


class Trouble(msgspec.Struct, frozen=True):
    """What cannot be followed, and why. ``refused``: the server does not take the filter."""

    of: str
    why: str
    refused: bool = False


class Explained(msgspec.Struct, frozen=True):
    """The answer to a question."""

    lines: tuple[Line, ...]


Came = FlowView | BirthView | Looked | Trouble | Explained


def watch(
    *,
    source: Source = None,
    to: To = None,
    on: On = None,
    verdict: Verdicts = None,
    rule: Decider = None,
    host: Host = None,
    process: Process = None,
    end: End = None,
    via: ViaWay = None,
    service: OpenedTo = None,
    common: Common = NO_FLAGS,
) -> int:
    """What goes on, live: health, who talks to whom and how often, births and findings as they come.

    Keys: f filter, p pause, g group by, s sort, Enter explain, q quit. In a pipe, or where the terminal cannot be
    moved about in, a line for each thing that happens; with -o json, an object.
    """
    settings, client = connect(common)
    given = {"from": source, "to": to, "on": on, "verdict": verdict, "rule": rule, "host": host}
    given |= {"process": process, "end": end, "via": via, "service": service}
    which = {name: value for name, value in given.items() if value}
    client.call("status", StatusReply)
    follower = Follower(settings.socket, which)
    if settings.output is not Format.TABLE or not is_terminal():
        return _lines(follower, settings.output)
    with whole_screen() as terminal:
        _live(terminal, Board(which), follower)
    return Exit.DONE


# What comes


class Follower:
    """Follows flows, births and the installation in threads of its own; what comes waits in ``came``."""

    def __init__(self, socket: Any, which: dict[str, str]) -> None:
        self._socket = socket
        self._followed = 0
        self.came: queue.Queue[tuple[int, Came]] = queue.Queue(WAITING)
        self.rung: Callable[[], None] = lambda: None
        self._begin(lambda client: self._repeatedly(INSTALLATION, lambda: self._put(0, look(client))))
        self._begin(lambda client: self._repeatedly(BIRTHS, lambda: self._drain(0, client.watch_births())))
        self.follow(which)

    def follow(self, which: dict[str, str]) -> None:
        """Follow these flows from now on, and no others."""
        self._followed += 1
        number, parameters = self._followed, {str(name): value for name, value in which.items()}
        self._begin(lambda client: self._flows(number, client, parameters))

    def ask(self, question: Callable[[Client], Came]) -> None:
        """Ask something; the answer comes."""
        self._begin(lambda client: self._put(0, question(client)))

    def news(self) -> Iterator[Came]:
        """Yield what has come and is still wanted."""
        while True:
            try:
                number, each = self.came.get_nowait()
            except queue.Empty:
                return
            if number in (0, self._followed):
                yield each

    def _flows(self, number: int, client: Client, parameters: dict[str, str]) -> None:
        self._repeatedly(FLOWS, lambda: self._drain(number, client.watch_flows(**parameters)), number)

    def _drain(self, number: int, lines: Iterator[Came]) -> None:
        for each in lines:
            if number not in (0, self._followed):
                return
            self._put(number, each)

    def _repeatedly(self, what: str, follow: Callable[[], None], number: int = 0) -> None:
        """Follow again whatever ends, until something else is followed instead."""
        while number in (0, self._followed):
            try:
                follow()
            except Refused as problem:
                mistaken = number > 0 and problem.status in MISTAKEN
                self._put(number, Trouble(what, problem.message, refused=mistaken))
                if mistaken:
                    return
            except StockadeError as problem:
                self._put(number, Trouble(what, problem.message))
            time.sleep(AGAIN)

    def _put(self, number: int, each: Came) -> None:
        try:
            self.came.put_nowait((number, each))
        except queue.Full:
            return
        self.rung()

    def _begin(self, work: Callable[[Client], None]) -> None:
        threading.Thread(target=lambda: work(Client(self._socket)), daemon=True).start()


def look(client: Client) -> Looked:
    """Look at the installation."""
    return Looked(client.call("status", StatusReply), client.call("findings", FindingsReply))


def take(board: Board, each: Came, now: float) -> None:
    """Put what came on the board."""
    match each:
        case FlowView():
            board.troubles.pop(FLOWS, None)
            board.take_flow(each, now)
        case BirthView():
            board.troubles.pop(BIRTHS, None)
            board.take_birth(each, now)
        case Looked():
            board.troubles.pop(INSTALLATION, None)
            board.take_status(each.status, each.findings, now)
        case Trouble(_, why, True):
            board.refuse(why)
        case Trouble(what, why):
            board.troubles[what] = why
        case Explained(lines):
            board.explain(lines)


# On a terminal


def _live(terminal: Terminal, board: Board, follower: Follower) -> None:
    follower.rung = terminal.wake
    while terminal.ended is None:
        for each in follower.news():
            take(board, each, time.time())
        columns, rows = terminal.size
        terminal.show(screen(board, columns, rows, time.time()))
        for key in terminal.keys(TICK):
            if _wished(board, board.press(key, time.time()), follower):
                return


def _wished(board: Board, wish: Wish | None, follower: Follower) -> bool:
    """Do what a key asked for; tell whether it was to end."""
    if wish is Wish.FOLLOW:
        follower.follow(board.which)
    elif wish is Wish.EXPLAIN and (edge := board.selected(time.time())) is not None:
        follower.ask(lambda client: explained(client, edge))
    return wish is Wish.QUIT


def explained(client: Client, edge: Edge) -> Explained:
    """Explain the last connection of an edge: why it is allowed or denied now."""
    flow = edge.sample
    ends = [str(each.workload or each.address) for each in (flow.source, flow.destination)]
    head = line(f"{flow.source.name} → {flow.destination.name} {flow.on}")
    try:
        reply = client.call("explain", ExplainReply, source=ends[0], destination=ends[1], on=flow.on)
    except StockadeError as problem:
        return Explained((head, line(), line(problem.message), line(problem.remedy)))
    said = line(f"stockade explain {ends[0]} {ends[1]} {flow.on}")
    return Explained((head, line(), *(tuple(each) for each in explain_view(reply)), line(), said))


# In a pipe


def _lines(follower: Follower, form: Format) -> int:
    remark("what happens follows as it comes; Ctrl-C ends it")
    board = Board({})
    while True:
        _, each = follower.came.get()
        if isinstance(each, Trouble) and each.refused:
            raise StockadeError(each.why, kept="nothing was changed", remedy="stockade watch --help")
        told = len(board.told)
        take(board, each, time.time())
        if form is Format.TABLE:
            _say(each, list(board.told)[told:])
        elif not isinstance(each, Trouble):
            print(msgspec.json.encode({_name(each): each}).decode(), flush=True)


def _say(each: Came, told: list[Told]) -> None:
    if isinstance(each, FlowView):
        show([flow_line(each)])
    elif isinstance(each, Trouble):
        remark(each.why)
    show(told_line(one) for one in told)


def _name(each: Came) -> str:
    return {FlowView: "flow", BirthView: "birth", Looked: "installation"}[type(each)]
