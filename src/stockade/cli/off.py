"""``stockade off``: everything open with one command, by the server where it can, and without it where not."""

import os
import pwd
import time
from typing import Annotated

from cyclopts import Parameter

from stockade.cli import emergency
from stockade.cli.apply import version_code, version_view
from stockade.cli.client import Client, Refused, Unreachable
from stockade.cli.durations import WAIT, Wait
from stockade.cli.emergency import Opened
from stockade.cli.exits import Exit
from stockade.cli.output import ALLOWED, View, line, remark
from stockade.cli.session import deliver
from stockade.cli.settings import NO_FLAGS, Common, Settings, resolve
from stockade.errors import StockadeError
from stockade.wire.api import Message, OffRequest, VersionReply

SETTLE = 1.0
"""Seconds after which tables that a living agent puts back are back."""
SERVER_FAULT = 500
ANSWER = 10.0
"""Seconds in which a server that can open everything has said so: one that hangs must not keep it closed."""


class OpenedReply(Message, frozen=True, kw_only=True):
    """What was done without a server. ``ended``: the process of one that could not do it, which was ended; else 0."""

    opened: Opened
    ended: int = 0


def off(
    *,
    note: Annotated[str, Parameter(help="Why; kept in the audit log.")] = "",
    local: Annotated[
        bool, Parameter(negative="", help="Do not ask the server: delete our tables on this host, with nft alone.")
    ] = False,
    wait: Wait = WAIT,
    common: Common = NO_FLAGS,
) -> int:
    """Open everything: every mode visibility, no quarantine, nothing held.

    Where no server answers, or it cannot do it, it is ended if it lives, our tables are deleted on this host with nft
    alone (as root), and a line in the state folder takes it into the audit log at the next `stockade up`, which then
    keeps the host open.
    """
    settings = resolve(common)
    if not local and (code := _by_server(settings, OffRequest(note=note, wait=wait))) is not None:
        return code
    return _by_hand(settings, note)


def _by_server(settings: Settings, request: OffRequest) -> Exit | None:
    """Ask the server; None where it cannot do it. What it refuses for a reason of ours is an error, not a detour."""
    try:
        reply = Client(settings.socket, request.wait + ANSWER).call("off", VersionReply, request)
    except Unreachable as problem:
        remark(f"{problem.message}; opening this host without it")
    except Refused as refused:
        if refused.status < SERVER_FAULT:
            raise
        remark(f"the server cannot do it ({refused.message}); opening this host without it")
    except StockadeError as problem:
        remark(f"{problem.message}; opening this host without it")
    else:
        deliver(settings, reply, version_view)
        return version_code(reply)
    return None


def _by_hand(settings: Settings, note: str) -> Exit:
    tables = emergency.our_tables()
    ended = emergency.end_server(settings.socket)
    if tables:
        emergency.remove(tables)
    emergency.open_gate(settings.run, settings.state)
    opened = Opened(at=time.time(), who=_who(), uid=os.getuid(), note=note, tables=tables)
    emergency.write_down(settings.state, opened)
    deliver(settings, OpenedReply(opened=opened, ended=ended), opened_view)
    if tables:
        _stay_open()
    return Exit.DONE


def _stay_open() -> None:
    """Say so where a living agent takes our deletion for tampering and repairs it."""
    time.sleep(SETTLE)
    if back := emergency.our_tables():
        raise emergency.Remain(
            f"{', '.join(back)} came back: an agent still runs, and repairs what it takes for tampering",
            kept="what policy denies is denied again",
            remedy="end `stockade up` (Ctrl-C there, or systemctl stop stockade), then again: stockade off",
        )


def opened_view(reply: OpenedReply) -> View:
    """What was done, and what follows."""
    tables = reply.opened.tables
    if tables:
        yield line(ALLOWED, f" This host is open: {' and '.join(tables)} deleted. Nothing of ours drops a packet.")
    else:
        yield line(ALLOWED, " This host was open already: no table of ours is there.")
    if reply.ended:
        yield line(f"  the server (process {reply.ended}) was ended: it would have put them back")
    yield line("  the next `stockade up` writes this into the audit log, and keeps the host open")


def _who() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
