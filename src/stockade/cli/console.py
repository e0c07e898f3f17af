"""``stockade console``."""

from typing import Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.output import View, line, remark
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.wire.api import ConsoleLinkReply, ConsoleLinkRequest, Role


def console(
    *,
    read_only: Annotated[bool, Parameter(negative="", help="For somebody who is to look and not to apply.")] = False,
    common: Common = NO_FLAGS,
) -> int:
    """Print a link that signs you in to the web console: good once, within ten minutes.

    What you do there is in the audit log under your name, and you may do there what you may do here. The console
    listens on this machine alone; from another one: ssh -L 7472:127.0.0.1:7472 HOST
    """
    settings, client = connect(common)
    reply = client.call("console-link", ConsoleLinkReply, ConsoleLinkRequest(read_only=read_only))
    deliver(settings, reply, link_view)
    may = "apply" if reply.user.role is Role.APPLY else "look, and not apply"
    remark(f"For {reply.user.name}, who may {may}. It is good once, for {reply.seconds / 60:.0f} minutes.")
    return Exit.DONE


def link_view(reply: ConsoleLinkReply) -> View:
    """The link, and nothing else: it can be handed to a browser."""
    yield line(reply.link)
