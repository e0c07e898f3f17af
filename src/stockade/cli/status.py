"""``stockade status``."""

from collections.abc import Iterator

import msgspec

from stockade.cli.exits import Exit
from stockade.cli.moments import stamp
from stockade.cli.output import DENIED, WOULD_DENY, Line, Span, View, bold, columns, dim, line
from stockade.cli.problems import short
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common, Settings
from stockade.core.model.snapshot import Contest
from stockade.wire.api import HostView, Setting, StatusReply

FULL = 0.8
"""Share of the connection tracking table from which on it is worth a word."""


CONTESTS = 5
"""Contested addresses that are shown; of more it says how many."""


def status(*, common: Common = NO_FLAGS) -> int:
    """The installation at a glance, and every setting with its origin.

    Exits 2 where a host is not as it should be, there are findings, a version waits to be confirmed, or an address
    that a document claims is somebody else's.
    """
    settings, client = connect(common)
    reply = _with_own(client.call("status", StatusReply), settings)
    deliver(settings, reply, status_view)
    seen = reply.pending or reply.findings or reply.contests
    wrong = seen or reply.stalled or reply.unstored or any(map(_astray, reply.hosts))
    return Exit.LOOK if wrong else Exit.DONE


def _with_own(reply: StatusReply, settings: Settings) -> StatusReply:
    """Add this command's own settings to the server's, where they differ."""
    known = {(each.name, each.value) for each in reply.settings}
    own = tuple(
        Setting(each.name, each.value, f"{each.origin} (this command)")
        for each in settings.values
        if (each.name, each.value) not in known
    )
    return msgspec.structs.replace(reply, settings=reply.settings + own)


def status_view(reply: StatusReply) -> View:
    """Version, what waits, hosts, workloads, settings."""
    yield _version(reply)
    yield from _pending(reply)
    if reply.stalled:
        yield line(DENIED, f" not compiled: {reply.stalled}; every host keeps what it enforces")
    if reply.unstored:
        yield line(DENIED, f" not stored: {reply.unstored}; what is enforced stays, and nothing new takes effect")
    yield line()
    unknown = f", {reply.unknown} unknown" if reply.unknown else ""
    modes = ", ".join(f"{count} {mode.value}" for mode, count in reply.modes if count)
    yield line("Workloads  ", f"{reply.workloads}{unknown}", f": {modes}" if modes else "")
    if reply.quarantines:
        yield line("Quarantine ", Span(", ".join(reply.quarantines), "red"))
    yield from _contests(reply.contests)
    yield _findings(reply)
    yield line()
    yield from columns(("HOST", "IN FORCE", "WORKLOADS", "BIRTHS", "TRACKED"), map(_host, reply.hosts))
    yield from _errors(reply.hosts)
    yield line()
    yield from columns(("SETTING", "VALUE", "ORIGIN"), ((s.name, s.value, s.origin) for s in reply.settings))
    you = reply.you
    yield line()
    yield line(dim(f"You are {you.name} (uid {you.uid}), who may {you.role.name.lower()}. Server: pid {reply.pid}, "))
    yield line(dim(f"Stockade {reply.product}, up since {stamp(reply.started)}, revision {reply.revision}."))


def _findings(reply: StatusReply) -> Line:
    counted = ", ".join(f"{count} {severity.value}" for severity, count in reply.findings)
    unknown = f", {reply.unassessed} not assessed" if reply.unassessed else ""
    found = Span(counted, "red") if counted else Span("none")
    accepted = f", {reply.accepted} accepted" if reply.accepted else ""
    more = ":  stockade findings" if counted or unknown or accepted else ""
    return line("Findings   ", found, f"{unknown}{accepted}{more}")


def _version(reply: StatusReply) -> Line:
    if not reply.version:
        return line(bold("Version 0"), ": the built-in policy. Nothing is dropped.")
    note = f' "{reply.note}"' if reply.note else ""
    return line(bold(f"Version {reply.version}"), f"{note} by {reply.author}, {stamp(reply.applied_at)}")


def _pending(reply: StatusReply) -> Iterator[Line]:
    if reply.pending:
        waits = reply.pending
        yield line(
            WOULD_DENY,
            f" version {waits.version} waits to be confirmed; version {waits.returns_to} returns at "
            f"{stamp(waits.deadline)}. Keep it:  stockade confirm",
        )


def _contests(found: tuple[Contest, ...]) -> Iterator[Line]:
    """Addresses that documents claim and that are not theirs."""
    for each in found[:CONTESTS]:
        where = f" on {each.host}" if each.host else ""
        yield line(WOULD_DENY, f" {short(each.where)}  {each.workload}: {each.address} is {each.holder}'s{where}")
    if len(found) > CONTESTS:
        yield line(f"  and {len(found) - CONTESTS} more addresses of documents that are somebody else's")


def _host(host: HostView) -> tuple[str, ...]:
    realised = "–" if host.realised is None else f"version {host.realised}"
    if host.wanted is not None and host.wanted != host.realised:
        realised += f" (wants {host.wanted})"
    elif host.realised is not None and not host.confirmed:
        realised += " (not heard of yet)"
    unknown = f" + {host.unknown} unknown" if host.unknown else ""
    births = host.births.value if host.births else "–"
    return host.id, realised, f"{host.workloads}{unknown}", births, _tracked(host)


def _tracked(host: HostView) -> str:
    if host.tracked is None or not host.tracked_limit:
        return "not assessed"
    share = host.tracked / host.tracked_limit
    return f"{host.tracked} of {host.tracked_limit}" + (f" ({share:.0%}: nearly full)" if share >= FULL else "")


def _astray(host: HostView) -> bool:
    """Whether a host does not enforce what it should, or nobody knows."""
    return bool(host.error) or not host.confirmed or host.wanted != host.realised


def _errors(hosts: tuple[HostView, ...]) -> Iterator[Line]:
    for host in hosts:
        if host.error:
            yield line(DENIED, f" {host.id}: {host.error}")
        for source, count in host.lost:
            if count:
                yield line(WOULD_DENY, f" {host.id}: {count} events lost by {source}")
        if host.realised_at is not None and host.error:
            yield line(f"   last in step {stamp(host.realised_at)}")
