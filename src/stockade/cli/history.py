"""``stockade history``."""

from typing import Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.moments import stamp
from stockade.cli.output import ALLOWED, Span, View, columns
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.wire.api import HistoryReply, VersionView


def history(
    *, last: Annotated[int | None, Parameter(help="At most so many.")] = None, common: Common = NO_FLAGS
) -> int:
    """Every policy version, newest first."""
    settings, client = connect(common)
    deliver(settings, client.call("history", HistoryReply, limit=last), history_view)
    return Exit.DONE


def history_view(reply: HistoryReply) -> View:
    """One line a version."""
    yield from columns(("", "VERSION", "AT", "AUTHOR", "POLICIES", "RULES", "NOTE"), map(_row, reply.versions))


def _row(each: VersionView) -> tuple[Span | str, ...]:
    mark = ALLOWED if each.active else Span(" ")
    note = f"version {each.restores} again" if each.restores is not None else ""
    note = ": ".join(filter(None, (note, each.note)))
    return mark, str(each.number), stamp(each.at), each.author, str(each.policies), str(each.rules), note
