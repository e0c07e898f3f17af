"""``stockade plan``, and how a plan is shown wherever one is."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import replace

from stockade.cli.exits import Exit
from stockade.cli.files import read_files
from stockade.cli.flows import Moment
from stockade.cli.moments import span, stamp
from stockade.cli.output import DENIED, Line, Span, View, bold, columns, line, rows_of
from stockade.cli.problems import problem_lines, short
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Where
from stockade.core.plan.values import Change, ConnectionChange, HalfOpen, Plan
from stockade.wire.api import PlanReply, PlanRequest
from stockade.wire.replay import ReplayView

MANY = "identities"
Signed = tuple[str, str, ConnectionChange]
"""A sign, a style, a change."""
SHOWN = 40
"""Connections listed unless all are asked for."""


def plan(
    *paths: Annotated[Path, Parameter(help="A folder, or files. - is stdin.")],
    every: Annotated[bool, Parameter(name="--all", negative="", help="List every connection, however many.")] = False,
    pairs: Annotated[int, Parameter(help="List so many pairs of workloads below each connection.")] = 0,
    replay: Annotated[
        Moment, Parameter(help="Judge by the draft also what was recorded since then: 7d, 2h, or a time.")
    ] = None,
    common: Common = NO_FLAGS,
) -> int:
    """What a draft would change: connections, points, tests, invariants, warnings. Changes nothing.

    The draft is the whole policy: what is in none of the files is removed. Exits 2 where something would
    change, 1 where the draft must not be applied.
    """
    settings, client = connect(common)
    since = None if replay is None else max(time.time() - replay, 0.0)
    request = PlanRequest(files=read_files(paths or (Path(),)), pairs=pairs, replay=since)
    reply = client.call("plan", PlanReply, request)
    named = " ".join(map(str, paths)) or "."
    deliver(
        settings, reply, lambda it: (*plan_view(it.plan, every=every), *replay_view(it.replay), *_next(it.plan, named))
    )
    return code(reply.plan)


def code(it: Plan) -> Exit:
    """Return the exit code of a plan that was shown."""
    if it.refused:
        return Exit.ERROR
    return Exit.DONE if it.empty else Exit.LOOK


def plan_view(it: Plan, *, every: bool = False) -> View:
    """The whole plan. Where the draft does not parse, its problems and nothing else."""
    if it.problems:
        yield from problem_lines(it.problems)
        yield line(f"{_count(len(it.problems), 'problem')}. Version {it.against} stays in force.")
        return
    yield _head(it)
    yield from _documents(it)
    yield from _connections(it, every=every)
    yield from _half_open(it.half_open)
    yield line()
    yield _points(it)
    yield from _tests(it)
    yield from _invariants(it)
    yield from _warnings(it)


def replay_view(it: ReplayView | None) -> View:
    """What the draft would have made of what was recorded."""
    if it is None:
        return
    yield line()
    yield line(bold("Recorded"), f"     {span(it.until - it.since)}: {_count(it.kept, 'connection')} pass then and now")
    if it.partial_before is not None and it.partial_before > it.since:
        yield line(f"  before {stamp(it.partial_before)} not all is kept")
    for sign, style, count, said, listed in (
        ("-", "red", it.cut, "passed and would be denied", it.cut_list),
        ("+", "green", it.opened, "were denied and would pass", it.opened_list),
    ):
        if not count:
            yield line(f"  none {said}")
            continue
        yield line(Span(f"  {sign} ", style), f"{count} {said}")
        rows = [(each.source, "→", each.destination, each.on, str(each.connections), each.by) for each in listed]
        for row in rows_of(rows, "      "):
            yield from row


def _next(it: Plan, named: str) -> Iterator[Line]:
    if it.problems:
        return
    yield line()
    if it.refused:
        yield line(DENIED, bold(" This draft must not be applied: "), "mend what failed above.")
        return
    if not it.empty:
        yield line("Apply it:  ", bold(f'stockade apply {named} --note "why"'))


def _head(it: Plan) -> Line:
    if it.empty:
        return line(f"Draft against version {it.against}. Nothing changes.")
    count = {change: sum(1 for rule in it.rules if rule.change is change) for change in Change}
    return line(
        f"Draft against version {it.against}. {_count(count[Change.CHANGED], 'rule')} changed, "
        f"{count[Change.ADDED]} added, {count[Change.REMOVED]} removed."
    )


def _documents(it: Plan) -> View:
    rows = [(d.kind, d.name, d.change.value, short(d.where)) for d in it.documents if d.kind != "Policy"]
    if rows:
        yield line()
        yield line(bold("Documents"))
        yield from columns(("", "", "", ""), rows, indent="  ")


def _connections(it: Plan, *, every: bool) -> View:
    changes = [("+", "green", each) for each in it.gained] + [("-", "red", each) for each in it.lost]
    if not changes:
        return
    yield line()
    yield line(bold("Connections"))
    changes = changes if every else list(_gathered(changes))
    shown = changes if every else changes[:SHOWN]
    laid = rows_of((_change_row(sign, style, each) for sign, style, each in shown), indent="  ")
    for (_, _, each), lines in zip(shown, laid, strict=True):
        yield from lines
        if each.live:
            yield line(f"      {_count(each.live, 'live connection')} {'ends' if each.live == 1 else 'end'}")
        yield from (line(f"      {source} → {destination}") for source, destination in each.pairs)
    if len(changes) > len(shown):
        yield line(f"  … and {len(changes) - len(shown)} more: --all lists them")


def _gathered(changes: Iterable[Signed]) -> Iterator[Signed]:
    """Where a mode's default opened or closed the same for several, tell it once: by destination, then by source."""
    held = list(changes)
    for mine, other in (("destination", "source"), ("source", "destination")):
        groups: dict[tuple[object, ...], list[Signed]] = {}
        for place, (sign, style, each) in enumerate(held):
            alone = each.rule is not None or each.pairs or MANY in each.source or MANY in each.destination
            key = (place,) if alone else (sign, getattr(each, mine), each.on)
            groups.setdefault(key, []).append((sign, style, each))
        held = [_told_once(group, other) for group in groups.values()]
    yield from held


def _told_once(group: list[Signed], field: str) -> Signed:
    sign, style, each = group[0]
    if len(group) == 1:
        return group[0]
    names = [getattr(one, field) for _, _, one in group]
    counted = {"source": "sources", "destination": "destinations"}[field]
    total = sum(getattr(one, counted) for _, _, one in group)
    return sign, style, replace(each, **{field: f"{len(names)} {MANY}", counted: total})


def _change_row(sign: str, style: str, each: ConnectionChange) -> tuple[Span | str, ...]:
    was = "was " if sign == "-" else ""
    ends = f"{each.source} → {each.destination}"
    return Span(sign, style), ends, each.on, _pair_count(each), _origin(each, was)


def _pair_count(each: ConnectionChange) -> str:
    """How many workloads at each end; networks and the unknown have no number."""
    return f"{each.sources or '–'} → {each.destinations or '–'} workloads"


def _origin(each: ConnectionChange, was: str) -> str:
    if each.rule is None:
        return f"{was}a mode's default" + (f" {short(each.where)}" if each.where else "")
    return f"{was}{short(each.where or Where())}  {each.rule}"


def _half_open(found: Iterable[HalfOpen]) -> View:
    for at, each in enumerate(found):
        if not at:
            yield line()
            yield line(bold("Half-open"), "  allowed at one end, denied at the other")
        end = "on departure" if each.denied is Direction.EGRESS else "on arrival"
        yield line(f"  {each.source} → {each.destination}  {each.on}  denied {end}. Missing:")
        yield from (line(f"      {text}") for text in each.missing.splitlines())


def _points(it: Plan) -> Line:
    programs, elements = (sum(each.programs for each in it.points), sum(each.elements for each in it.points))
    what = f": {_count(programs, 'chain')}, {_count(elements, 'set element')}" if it.points else ""
    return line(bold("Points       "), f"{len(it.points)} of {it.points_total} change{what}")


def _tests(it: Plan) -> View:
    passed = sum(test.passed for test in it.tests)
    failed = [test for test in it.tests if not test.passed]
    summary = f"{passed} passed" + (f", {len(failed)} failed" if failed else "")
    yield line(bold("Tests        "), summary if it.tests else "none")
    for test in failed:
        yield line("  ", DENIED, f" {short(test.where)}  {test.policy}: {test.text}: {test.because}")


def _invariants(it: Plan) -> View:
    broken = [each for each in it.invariants if not each.holds]
    holding = len(it.invariants) - len(broken)
    summary = f"{holding} hold" + (f", {len(broken)} broken" if broken else "")
    yield line(bold("Invariants   "), summary if it.invariants else "none")
    for each in broken:
        yield line("  ", DENIED, f" {short(each.where)}  {each.name}: {each.counterexample}")


def _warnings(it: Plan) -> View:
    for at, each in enumerate(it.warnings):
        head = bold("Warnings     ") if not at else Span(" " * 13)
        yield line(head, f"{short(each.where)}  {each.subject}: {each.text}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
