"""``stockade demo``: the main job, shown on a small lab of real network namespaces with real packets.

Six steps, each printed as it happens. Every expectation is what ``explain`` says, every observation what packets did;
one packet that did not do what policy says makes the exit code 1. Needs no root and no Docker.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from stockade.cli import demo_console
from stockade.cli.births import births_view
from stockade.cli.demo_stage import WAYS, Cell, Stage, stage
from stockade.cli.demo_traffic import goes_on
from stockade.cli.exits import Exit
from stockade.cli.explain import explain_view
from stockade.cli.output import ALLOWED, DENIED, Span, View, bold, columns, dim, line, remark, show
from stockade.cli.plan import plan_view
from stockade.cli.settings import NO_FLAGS, Common, Format, resolve
from stockade.core.model.ids import Version
from stockade.core.model.net import Protocol
from stockade.testing.lab import bridged, enter
from stockade.testing.probe.values import Probe
from stockade.wire.api import (
    ApplyRequest,
    BirthsReply,
    ConsoleLinkReply,
    ConsoleLinkRequest,
    ExplainReply,
    File,
    Message,
    PlanReply,
    PlanRequest,
    RollbackRequest,
    VersionReply,
)

NEWBORN = "web-2"
OPEN = Span("·", "dim")


class Summary(Message, frozen=True, kw_only=True):
    """What the demo came to. ``leaked`` are packets of the newborn that policy denies and that arrived."""

    probes: int
    mismatches: int
    births: int
    leaked: int
    versions: int


class Told(msgspec.Struct):
    """What has been counted so far."""

    probes: int = 0
    mismatches: int = 0
    births: int = 0
    leaked: int = 0
    versions: int = 0


def demo(
    *,
    once: Annotated[bool, Parameter(negative="", help="End after the six steps.")] = False,
    traffic: Annotated[
        bool, Parameter(negative="", help="Then keep the shop's traffic, and an attacker's walk, going until ended.")
    ] = False,
    common: Common = NO_FLAGS,
) -> int:
    """Show the main job on a lab: discover, plan, apply, a birth, an explanation, a rollback.

    Builds network namespaces of its own and never touches this machine's network. Without --once the lab stays up for
    you to try the command line on, and its console for a browser of this machine; Ctrl-C leaves nothing behind. Exits
    1 where a packet did not do what policy says.
    """
    settings = resolve(common)
    port = None if once else demo_console.taken()
    demo_console.bequeath(port)
    enter()
    return asyncio.run(_told(settings.output, port, once=once, traffic=traffic))


async def _told(output: Format, port: socket.socket | None, *, once: bool, traffic: bool) -> Exit:
    told = Told()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with stage() as on:
        story = asyncio.create_task(_story(on, told))
        await asyncio.wait((story, asyncio.create_task(ended.wait())), return_when=asyncio.FIRST_COMPLETED)
        if not story.done():
            story.cancel()
            await asyncio.gather(story, return_exceptions=True)
            remark("Interrupted; the lab is taken down.")
            return Exit.ERROR
        story.result()
        if not once:
            await _stays(on, port, ended, traffic=traffic)
    summary = Summary(**msgspec.to_builtins(told))
    if output is Format.TABLE:
        show(_verdict(summary))
    else:
        print(msgspec.json.encode(summary).decode(), flush=True)
    return Exit.ERROR if summary.mismatches or summary.leaked else Exit.DONE


async def _stays(on: Stage, port: socket.socket | None, ended: asyncio.Event, *, traffic: bool) -> None:
    """Leave the lab to whoever looks at it, until they end it."""
    async with AsyncExitStack() as open_until_then:
        link = ""
        if port is not None:
            inside = (await asyncio.to_thread(_console_link, on)).link
            await open_until_then.enter_async_context(
                demo_console.carried(port, on.lab.netns(on.lab.host_name), inside)
            )
            link = demo_console.outside_link(inside, port)
        if traffic:
            request = ApplyRequest(files=shop_files(), note="while traffic goes on", yes=True)
            applied = await asyncio.to_thread(on.client.call, "apply", VersionReply, request)
            await on.settled(applied.version.number, 0)
        show(_invitation(on, link, traffic=traffic))
        work = [asyncio.create_task(ended.wait()), *([asyncio.create_task(goes_on(on.lab))] if traffic else ())]
        done, left = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for each in done:
            each.result()


def _console_link(on: Stage) -> ConsoleLinkReply:
    return on.client.call("console-link", ConsoleLinkReply, ConsoleLinkRequest())


async def _story(on: Stage, told: Told) -> None:
    on.tell_all()
    known = sum(not node.outside for node in on.lab.topology.nodes) + 1
    await on.settled(0, known)
    await _before(on, told)
    version = await _applied(on, told)
    await _after(on, told)
    await _born(on, told, version, known)
    await _explained(on)
    await _rolled_back(on, told)


async def _before(on: Stage, told: Told) -> None:
    _step(1, "What reaches what before any policy", "A new installation denies nothing: its mode is visibility.")
    _count(told, cells := await on.matrix(judge=True))
    show(_matrix(on.names, cells))


async def _applied(on: Stage, told: Told) -> int:
    files = shop_files()
    _step(2, "stockade plan examples/shop", "What the shop's policy would change. Nothing is enforced yet.")
    planned = await asyncio.to_thread(on.client.call, "plan", PlanReply, PlanRequest(files=files, pairs=0))
    show(plan_view(planned.plan))
    _step(3, "stockade apply examples/shop", "The same probes again, beside what policy says of each.")
    request = ApplyRequest(files=files, note="the shop's first policy", expect=planned.plan.id)
    applied = await asyncio.to_thread(on.client.call, "apply", VersionReply, request)
    told.versions += 1
    show([line(f"Version {applied.version.number} is in force: {applied.version.note}."), line()])
    await on.settled(applied.version.number, 0)
    return applied.version.number


async def _after(on: Stage, told: Told) -> None:
    _count(told, cells := await on.matrix(judge=True))
    show(_matrix(on.names, cells))
    show(_wrong(cells))


async def _born(on: Stage, told: Told, version: int, known: int) -> None:
    """The newborn sends from its first moment: what is denied must never arrive, what is allowed soon does."""
    _step(4, f"A birth: {NEWBORN} starts while policy is in force", "It sends at once, before anybody was told of it.")
    created = time.time()
    await on.lab.add(bridged(NEWBORN, "shop", app="shop", env="prod", role="web"))
    denied = [Probe(NEWBORN, "db-1", Protocol.TCP, 5432), Probe(NEWBORN, "intruder", Protocol.UDP, 53)]
    early = await on.lab.probe(denied)
    on.teller.tell(msgspec.structs.replace(on.lab.sighting(NEWBORN), created=created))
    await on.settled(version, known + 1)
    late = await on.lab.probe([*denied, Probe(NEWBORN, "api-1", Protocol.TCP, 8080)])
    told.probes += len(early) + len(late)
    told.leaked += sum(each.delivered for each in (*early, *late[:-1]))
    told.mismatches += not late[-1].reached
    births = await asyncio.to_thread(on.client.call, "births", BirthsReply)
    mine = tuple(each for each in births.births if each.name == NEWBORN)
    told.births += len(mine)
    told.mismatches += len(mine) != 1
    show(births_view(BirthsReply(births=mine)))
    show(
        [
            line(),
            *(line("  ", _mark(each.delivered), f" {_words(each.probe)}   before it was known") for each in early),
            *(line("  ", _mark(each.delivered), f" {_words(each.probe)}   once it was known") for each in late),
            line(),
        ]
    )
    await on.lab.remove(NEWBORN)
    on.teller.gone(*(each.workload for each in mine))


async def _explained(on: Stage) -> None:
    _step(5, "stockade explain web-1 db-1 tcp/5432", "Why one of these was denied, end by end.")
    told = await asyncio.to_thread(
        on.client.call, "explain", ExplainReply, source="web-1", destination="db-1", on="tcp/5432"
    )
    show(explain_view(told))


async def _rolled_back(on: Stage, told: Told) -> None:
    _step(6, "stockade rollback 0", "The version before, as a new version. The same probes once more.")
    request = RollbackRequest(version=Version(0), note="the demo ends")
    back = await asyncio.to_thread(on.client.call, "rollback", VersionReply, request)
    told.versions += 1
    await on.settled(back.version.number, 0)
    _count(told, cells := await on.matrix(judge=True))
    show([line(f"Version {back.version.number} is in force: what version 0 said.")])
    show(_matrix(on.names, cells))


def shop_files() -> tuple[File, ...]:
    """Return the shop's policy: from the package, or from the checkout it is run from."""
    packed = resources.files("stockade") / "examples" / "shop"
    folder = packed if packed.is_dir() else Path(__file__).parents[3] / "examples" / "shop"
    named = sorted((each for each in folder.iterdir() if each.name.endswith(".yaml")), key=lambda each: each.name)
    return tuple(File(f"examples/shop/{each.name}", each.read_text(encoding="utf-8")) for each in named)


# What is shown


def _step(number: int, title: str, about: str) -> None:
    show([line(), line(bold(f"{number}  {title}")), line(dim(f"   {about}")), line()])


def _count(told: Told, cells: Sequence[Cell]) -> None:
    told.probes += len(cells)
    told.mismatches += sum(not each.right for each in cells)


def _matrix(names: Sequence[str], cells: Iterable[Cell]) -> View:
    """One row a source, one column a destination; in it, a mark for each way, IPv4 and IPv6 agreeing."""
    marks: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for each in cells:
        marks.setdefault((each.probe.source, each.probe.destination), {}).setdefault(each.way, []).append(each)
    yield line(dim(f"   {' '.join(way for way, *_ in WAYS)}, in this order; IPv4 and IPv6 each"))
    width = 2 + max(len(name) for name in names)
    head = "".join(name.ljust(max(len(WAYS), len(name)) + 2) for name in names)
    yield line(f"   {'from':<{width}}", dim(head))
    for one in names:
        spans: list[Span | str] = [f"   {one:<{width}}"]
        for other in names:
            column = max(len(WAYS), len(other)) + 2
            ways = marks.get((one, other), {})
            spans += [_way_mark(ways[way]) if way in ways else OPEN for way, *_ in WAYS]
            spans.append(" " * (column - len(WAYS)))
        yield line(*spans)
    yield line()


def _way_mark(cells: Sequence[Cell]) -> Span:
    if any(not each.right for each in cells):
        return Span("!", "bold red")
    if len({each.observed for each in cells}) > 1:
        return Span("?", "magenta")
    return _mark(cells[0].observed)


def _mark(passed: bool) -> Span:
    return ALLOWED if passed else DENIED


def _wrong(cells: Sequence[Cell]) -> Iterator[tuple[Span, ...]]:
    wrong = [each for each in cells if not each.right]
    passed = sum(each.observed for each in cells)
    yield line(
        f"   {len(cells)} probes: {passed} passed, {len(cells) - passed} were denied, {len(wrong)} did otherwise."
    )
    rows = [(_words(each.probe), "passed" if each.observed else "was denied") for each in wrong[:10]]
    yield from columns(("PROBE", "BUT IT"), rows) if rows else ()


def _words(probe: Probe) -> str:
    on = "ping" if probe.protocol in (Protocol.ICMP, Protocol.ICMPV6) else f"{probe.protocol.name.lower()}/{probe.port}"
    return f"{probe.source} → {probe.destination} {on}"


def _verdict(summary: Summary) -> View:
    good = not summary.mismatches and not summary.leaked
    yield line(
        ALLOWED if good else DENIED,
        f" {summary.probes} probes, {summary.mismatches} did otherwise than policy says; "
        f"{summary.births} birth, {summary.leaked} packets leaked; {summary.versions} versions.",
    )


def _invitation(on: Stage, link: str, *, traffic: bool) -> View:
    if traffic:
        yield line("The shop's policy is in force again; its traffic goes on, and an attacker walks through it.")
    yield line(bold("The lab stays up. In another terminal:"))
    yield line(f"   export STOCKADE_STATE={on.state}")
    yield line("   stockade status")
    yield line("   stockade watch" if traffic else "   stockade plan examples/shop")
    if link:
        yield line("In a browser of this machine, once and within ten minutes (a fresh one: stockade console):")
        yield line(f"   {link}")
    yield line("Ctrl-C leaves nothing behind.")
