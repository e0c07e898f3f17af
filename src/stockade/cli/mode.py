"""``stockade mode``."""

from typing import Annotated

from cyclopts import Parameter

from stockade.cli.apply import AcceptNarrower, version_code, version_view
from stockade.cli.durations import WAIT, Seconds, Wait
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.core.model.policy import Births, Mode
from stockade.wire.api import ModeRequest, VersionReply


def mode(
    select: Annotated[str, Parameter(help='A selector, as in "app = shop" or "all".')],
    mode: Annotated[Mode, Parameter(help="idle, visibility, selective or full.")],
    *,
    births: Annotated[Births | None, Parameter(help="On hosts it selects: hold or pass unlabelled newcomers.")] = None,
    priority: Annotated[int | None, Parameter(help="Instead of above every mode there is.")] = None,
    note: Annotated[str, Parameter(help="Why; kept with the version.")] = "",
    confirm: Annotated[
        Seconds | None, Parameter(help="As 60s or 5m: undone again unless `stockade confirm` follows.")
    ] = None,
    accept_narrower: AcceptNarrower = False,
    wait: Wait = WAIT,
    common: Common = NO_FLAGS,
) -> int:
    """Change the enforcement mode of what a selector matches, as a new version."""
    settings, client = connect(common)
    request = ModeRequest(
        select=select,
        mode=mode,
        births=births,
        priority=priority,
        note=note,
        confirm=confirm,
        accept_narrower=accept_narrower,
        wait=wait,
    )
    reply = client.call("mode", VersionReply, request)
    deliver(settings, reply, version_view)
    return version_code(reply)
