"""``stockade confirm``."""

from typing import Annotated

from cyclopts import Parameter

from stockade.cli.apply import version_code, version_view
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.core.model.ids import Version
from stockade.wire.api import ConfirmRequest, VersionReply


def confirm(
    version: Annotated[int | None, Parameter(help="The version meant: another one is not kept by mistake.")] = None,
    *,
    common: Common = NO_FLAGS,
) -> int:
    """Keep a version that was applied with --confirm; without this the earlier one returns."""
    settings, client = connect(common)
    reply = client.call("confirm", VersionReply, ConfirmRequest(version=None if version is None else Version(version)))
    deliver(settings, reply, version_view)
    return version_code(reply)
