"""``stockade suggest`` and ``stockade ringfence``: a policy from what was seen, with what it rests on."""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.flows import Moment
from stockade.cli.moments import span, stamp
from stockade.cli.output import Span, View, bold, columns, line, remark
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common, Format
from stockade.errors import StockadeError
from stockade.wire.suggestions import RuleView, Share, SuggestReply, SuggestRequest

WEEK = 7 * 86400.0
SHOWN = 30
"""Flows left out that are listed."""

Since = Annotated[Moment, Parameter(help="Learn from then on: 2h, 7d ago, or 2026-03-01T12:00 in UTC (7d).")]
Until = Annotated[Moment, Parameter(help="Up to then (now).")]
Write = Annotated[Path | None, Parameter(help="Write the policy to this new file instead of stdout.")]


def suggest(
    selector: Annotated[str | None, Parameter(help="For whom: a selector, such as app = shop.")] = None,
    *,
    name: Annotated[str | None, Parameter(help="The policy's name (suggested).")] = None,
    tighten: Annotated[str | None, Parameter(help="Narrow this live policy to what was used of it.")] = None,
    since: Since = None,
    until: Until = None,
    enforce: Annotated[bool, Parameter(negative="", help="With a mode that makes it count.")] = False,
    write: Write = None,
    common: Common = NO_FLAGS,
) -> int:
    """A policy from recorded flows: readable rules, each with what it rests on, and what is left out and why.

    Changes nothing: what it writes is a draft for plan and apply.
    """
    if (selector is None) == (tighten is None):
        raise StockadeError(
            "suggest needs a selector, or --tighten and a policy's name",
            kept="nothing was done",
            remedy='stockade suggest "app = shop"   or   stockade suggest --tighten shop',
        )
    request = SuggestRequest(
        name=tighten or name or "suggested",
        selector=selector or "",
        since=since if since is not None else time.time() - WEEK,
        until=until,
        enforce=enforce,
        tighten=tighten is not None,
    )
    return _ask(request, write, common)


def ringfence(
    app: Annotated[str, Parameter(help="The application: the value of its label app.")],
    *,
    since: Since = None,
    until: Until = None,
    enforce: Annotated[bool, Parameter(help="With a mode that makes it count.")] = True,
    write: Write = None,
    common: Common = NO_FLAGS,
) -> int:
    """An app allowed to itself and to the neighbours that it was seen to have, and to nobody else.

    Changes nothing: what it writes is a draft for plan and apply.
    """
    request = SuggestRequest(
        name=f"ringfence-{app}",
        selector=f"app = {app}",
        since=since if since is not None else time.time() - WEEK,
        until=until,
        within=True,
        enforce=enforce,
    )
    return _ask(request, write, common)


def _ask(request: SuggestRequest, write: Path | None, common: Common) -> int:
    settings, client = connect(common)
    reply = client.call("suggest", SuggestReply, request)
    if write is None:
        deliver(settings, reply, lambda it: (*suggestion_view(it), line(), *map(line, it.text.splitlines())))
        return Exit.DONE
    try:
        with write.open("x", encoding="utf-8") as file:
            file.write(reply.text)
    except FileExistsError:
        raise StockadeError(
            f"{write} is there already", kept="it is as it was", remedy="name another file, or remove it"
        ) from None
    deliver(settings, reply, suggestion_view)
    if settings.output is Format.TABLE:
        remark(f"{write} is written. Put it beside your other policies and look: stockade plan {write.parent}")
    return Exit.DONE


def suggestion_view(reply: SuggestReply) -> View:
    """What the rules rest on, what is left out, how far to trust it."""
    long = span(reply.until - reply.since)
    count = "1 rule" if len(reply.rules) == 1 else f"{len(reply.rules)} rules"
    yield line(
        bold(count), f"{' besides its own' if reply.within else ''} from {reply.recorded} recorded flows of {long}"
    )
    if reply.partial_before is not None and reply.partial_before > reply.since:
        yield line(f"Before {stamp(reply.partial_before)} not all is kept.")
    yield line()
    for each in reply.rules:
        yield from _rule(each)
    yield from _trust(reply)
    if reply.left_out:
        yield line()
        yield line(bold("Seen, and not allowed by it"))
        rows = [
            (
                f"  {one.source}",
                one.destination,
                one.on,
                str(one.connections),
                f"{one.reason}{_more(one.detail, one.open)}",
            )
            for one in reply.left_out[:SHOWN]
        ]
        yield from columns(("  FROM", "TO", "ON", "CONNECTIONS", "WHY"), rows)
        if len(reply.left_out) > SHOWN:
            yield line(f"  and {len(reply.left_out) - SHOWN} more: -o json")


def _more(detail: str, opened: bool) -> str:
    return (f" ({detail})" if detail else "") + (", but something else in the draft allows it" if opened else "")


def _rule(each: RuleView) -> View:
    if each.before and not each.text:
        yield line(Span("- ", "red"), f"{each.before}    not used")
        return
    if each.before and each.before != each.text:
        yield line(Span("- ", "red"), each.before)
    yield line(Span("+ ", "green") if each.before != each.text else "  ", each.text)
    yield line(f"      {each.connections} connections, {each.flows} flows, {stamp(each.first)} to {stamp(each.last)}")
    if each.processes:
        yield line(f"      by {', '.join(each.processes)}")
    if each.opens:
        yield line(f"      would also open: {each.opens}")


def _trust(reply: SuggestReply) -> View:
    if reply.covered is not None:
        yield line(f"Covered     {reply.covered.count} of {reply.covered.of} connections that were seen")
    if reply.denied is not None:
        yield line(
            f"Held back   {_interval(reply.denied)} of the flows of the last quarter of that time would be denied"
        )
    elif reply.covered is not None:
        yield line("Held back   nothing: what was recorded is too short or too little to be tried on")
    if reply.new is not None:
        yield line(f"Unseen      the next connection is of a kind not seen yet with a probability of {reply.new:.1%}")


def _interval(share: Share) -> str:
    rate = share.count / share.of if share.of else 0.0
    return f"{share.count} of {share.of} ({rate:.1%}; 95 %: {share.low:.1%} to {share.high:.1%})"
