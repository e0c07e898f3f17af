"""Values as words on a page: moments, spans, places, whose word a label is. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from stockade.core import select
from stockade.core.model.flow import EXPORTER
from stockade.core.model.ids import Version
from stockade.core.model.labels import Label, LabelSource
from stockade.core.model.policy import Where
from stockade.core.model.selector import Equal
from stockade.wire.api import HostView, StatusReply

BUILT_IN = "built-in"
LAST_MOMENT = 253_402_300_799
"""9999-12-31: what a calendar can say."""


def stamp(seconds: float | None) -> str:
    """Return a moment, given in seconds since the epoch, in UTC; a dash where there is none."""
    if seconds is None:
        return "–"
    return datetime.fromtimestamp(min(max(seconds, 0), LAST_MOMENT), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def moment(seconds: float, now: float) -> str:
    """Return a moment without its date where that is today's; in UTC either way."""
    said, today = stamp(seconds), stamp(now)
    return said[11:19] if said[:10] == today[:10] else said[:19]


def calendar(seconds: float) -> str:
    """Return a moment as an address and a command line take it, in UTC."""
    return datetime.fromtimestamp(min(max(seconds, 0), LAST_MOMENT), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float | None) -> str:
    """Return a span of time with the unit that suits it; a dash where it is not known."""
    if seconds is None:
        return "–"
    for below, factor, unit in ((0.001, 1e6, "µs"), (1, 1e3, "ms")):
        if abs(seconds) < below:
            return f"{seconds * factor:.0f} {unit}"
    for below, divisor, digits, unit in ((120, 1, 1, "s"), (7200, 60, 0, "min"), (172_800, 3600, 1, "h")):
        if abs(seconds) < below:
            return f"{seconds / divisor:.{digits}f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def selected(key: str, value: str) -> str:
    """Return the selector of a label, as a user writes it."""
    return select.text(Equal(key, value))


def exporter(host: str) -> str:
    """Return the address of a device without an agent, where the name of a host is one's; empty where it is a host."""
    return host.removeprefix(EXPORTER) if host.startswith(EXPORTER) else ""


def counted(number: int, word: str, words: str = "") -> str:
    """Return a number with its word in the right form."""
    return f"{number:,} {word if number == 1 else words or word + 's'}".replace(",", "\u202f")


def link(path: str, **query: object) -> str:
    """Return a path with a query; what is empty or None is left out."""
    given = {key: str(value) for key, value in query.items() if value not in ("", None, False)}
    return f"{path}?{urlencode(given)}" if given else path


def place(where: Where | None) -> str:
    """Return where something stands in a file, as an editor takes it."""
    if where is None:
        return ""
    return f"{where.file}:{where.line}" if where.line else where.file


def place_link(where: Where | None, version: Version | str = "active") -> str:
    """Return the page that shows that line; empty where there is no file to show."""
    if where is None or where.file == BUILT_IN or not where.line:
        return ""
    return f"/policies/{version}#{quote(line_id(where.file, where.line), safe='')}"


def line_id(file: str, line: int) -> str:
    """Return the id of a line of a file on its page. No spaces: an id may hold none."""
    return f"L{line}:" + "".join(each if each.isprintable() and not each.isspace() else "_" for each in file)


def whose(label: Label) -> str:
    """Return whose word a label is, and the rule, document or person that set it."""
    by = f" {label.by}" if label.by else ""
    return {
        LabelSource.OPERATOR: f"operator{by}",
        LabelSource.RULE: f"policy, by{by}" if by else "policy",
        LabelSource.SELF: f"itself, by{by}" if by else "itself",
    }.get(label.source, f"{label.source.value}, by{by}" if by else label.source.value)


def astray(host: HostView) -> str:
    """Say in a word how a host stands: ``good``, ``waiting``, ``failing`` or ``unknown``."""
    if host.error:
        return "failing"
    if not host.confirmed or host.wanted is None:
        return "unknown"
    return "good" if host.wanted == host.realised and host.current else "waiting"


def health(status: StatusReply) -> str:
    """Say in a word how the whole stands; the worst that is true of a part."""
    states = {astray(each) for each in status.hosts}
    if status.stalled or status.unstored or "failing" in states:
        return "failing"
    if "unknown" in states or not status.hosts:
        return "unknown"
    return "waiting" if "waiting" in states or status.pending else "good"


def joined(words: Iterable[object]) -> str:
    """Return words with commas, a dash for none."""
    return ", ".join(map(str, words)) or "–"
