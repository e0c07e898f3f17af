"""``stockade rollback``."""

from typing import Annotated

from cyclopts import Parameter

from stockade.cli.apply import version_code, version_view
from stockade.cli.durations import WAIT, Seconds, Wait
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.core.model.ids import Version
from stockade.wire.api import RollbackRequest, VersionReply


def rollback(
    version: Annotated[int, Parameter(help="The version whose content returns; 0 is the built-in policy.")],
    *,
    note: Annotated[str, Parameter(help="Why; kept with the version.")] = "",
    confirm: Annotated[
        Seconds | None, Parameter(help="As 60s or 5m: undone again unless `stockade confirm` follows.")
    ] = None,
    wait: Wait = WAIT,
    common: Common = NO_FLAGS,
) -> int:
    """Make an earlier version active again, as a new version."""
    settings, client = connect(common)
    request = RollbackRequest(version=Version(version), note=note, confirm=confirm, wait=wait)
    reply = client.call("rollback", VersionReply, request)
    deliver(settings, reply, version_view)
    return version_code(reply)
