"""``stockade audit``."""

from collections.abc import Iterator, Sequence

from stockade.cli.exits import Exit
from stockade.cli.moments import span, stamp
from stockade.cli.output import DENIED, UNKNOWN, WOULD_DENY, Line, Span, View, bold, columns, line
from stockade.cli.seen import listened, ran
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.core.completeness.values import Dark, Off, SourceView
from stockade.core.model.ids import HostId
from stockade.wire.api import CompletenessReply

HEADERS = ("SOURCE", "HOST", "WORKLOADS", "ONLY IT", "DISCOVERED", "DELAY P50", "P99", "LOST EVENTS")
WORDS = {
    Off.UNREPORTED: "only the kernel shows it",
    Off.PORT: "a port whose other end was not found",
    Off.NEIGHBOUR: "an address that is nobody's",
    Off.LOST: "whoever reported it cannot be reached",
}


def audit(*, common: Common = NO_FLAGS) -> int:
    """What runs here and no source tells of: the kernel's own census against the inventory.

    Exits 2 where something is dark, 3 where nothing is but something could not be assessed.
    """
    settings, client = connect(common)
    reply = client.call("completeness", CompletenessReply)
    deliver(settings, reply, audit_view)
    if reply.found.dark:
        return Exit.LOOK
    return Exit.NOT_ASSESSED if reply.found.not_assessed or not reply.found.sources else Exit.DONE


def audit_view(reply: CompletenessReply) -> View:
    """The result; sources; what is dark; what could not be assessed."""
    found = reply.found
    yield _result(reply)
    yield line()
    lost = {(host, source): count for host, source, count in reply.lost}
    yield from columns(HEADERS, [_source(each, lost) for each in found.sources])
    for dark in found.dark:
        yield line()
        yield line(DENIED, " ", bold(dark.name), f"  {WORDS[dark.why]}")
        yield from columns(("", ""), _known(dark), indent="    ")
    if found.dark:
        yield line()
        yield line("To account for one that is yours, label it:  stockade labels set NAME key=value")
    if found.not_assessed:
        yield line()
    for host, each in found.not_assessed:
        yield line(UNKNOWN, f" not assessed on {host}: {each.what}: {each.why}")


def _result(reply: CompletenessReply) -> Line:
    found = reply.found
    cut_off = f"; {len(found.cut_off)} more have no link and can reach nobody" if found.cut_off else ""
    if found.dark:
        return line(bold(f"{len(found.dark)} dark"), cut_off)
    if found.not_assessed or not found.sources:
        return line(WOULD_DENY, f" nothing dark was seen, and not everything could be assessed{cut_off}")
    return line(f"Nothing is dark{cut_off}.")


def _source(each: SourceView, lost: dict[tuple[HostId, str], int]) -> Sequence[Span | str]:
    tally = each.tally
    away = f", away {tally.interrupted} times" if tally.interrupted else ""
    return (
        tally.source,
        each.host,
        str(each.workloads),
        str(each.only),
        str(tally.discovered),
        span(tally.p50),
        span(tally.p99),
        f"{lost.get((each.host, tally.source), 0)}{away}",
    )


def _known(dark: Dark) -> Iterator[tuple[str, str]]:
    facts = (
        ("because", dark.detail),
        ("id", dark.workload or ""),
        ("host", dark.host),
        ("process", ran(dark.process)),
        ("port", f"{dark.port} of {dark.bridge}" if dark.port and dark.bridge else dark.port),
        ("MAC", ", ".join(dark.macs)),
        ("addresses", ", ".join(dark.addresses)),
        ("listens on", ", ".join(map(listened, dark.listening))),
        ("since", stamp(dark.since) if dark.since is not None else ""),
        ("held", "yes: nothing that it sends passes" if dark.held else "no"),
    )
    yield from (fact for fact in facts if fact[1])
