"""``stockade log``."""

from typing import Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.moments import stamp
from stockade.cli.output import View, columns
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.wire.api import AuditReply


def log(
    *,
    last: Annotated[int | None, Parameter(help="At most so many (50).")] = None,
    before: Annotated[int | None, Parameter(help="Only entries with a smaller number.")] = None,
    common: Common = NO_FLAGS,
) -> int:
    """The audit log: who did what, when, and what came of it; newest first."""
    settings, client = connect(common)
    deliver(settings, client.call("audit", AuditReply, last=last, before=before), log_view)
    return Exit.DONE


def log_view(reply: AuditReply) -> View:
    """One line an entry."""
    rows = (
        (str(e.number), stamp(e.at), e.who, e.action, e.target, ": ".join(filter(None, (e.outcome, e.detail))))
        for e in reply.entries
    )
    yield from columns(("NUMBER", "AT", "WHO", "ACTION", "TARGET", "OUTCOME"), rows)
