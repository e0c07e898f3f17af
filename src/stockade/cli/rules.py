"""``stockade rules``."""

from typing import Annotated

from cyclopts import Parameter

from stockade.cli.exits import Exit
from stockade.cli.output import View, bold, dim, line, show
from stockade.cli.problems import place
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common, Format
from stockade.wire.api import RulesReply, RuleText


def rules(
    host: Annotated[str, Parameter(help="The host's id; not needed where there is only one.")] = "local",
    *,
    text: Annotated[bool, Parameter(negative="", help="The whole program as nft reads it.")] = False,
    common: Common = NO_FLAGS,
) -> int:
    """The compiled rules of a host, each beside its policy line.

    This is what the host should hold; `stockade status` says whether it does.
    """
    settings, client = connect(common)
    reply = client.call("rules", RulesReply, host=host)
    if text and settings.output is Format.TABLE:
        show(line(each.expandtabs(8)) for each in reply.text.splitlines())
    else:
        deliver(settings, reply, rules_view)
    return Exit.DONE


def rules_view(reply: RulesReply) -> View:
    """Chain by chain; below each rule that policy made, its id and place."""
    yield line(bold(reply.host), f"  version {reply.version}, revision {reply.revision}")
    chain = ""
    for each in reply.rules:
        if (name := f"{each.table} {each.chain}") != chain:
            chain = name
            yield line()
            yield line(bold(name))
        yield line(f"  {each.text}")
        if each.rule:
            yield line(dim(f"      {_beside(each)}"))


def _beside(each: RuleText) -> str:
    counted = f"  {each.packets} packets" if each.packets is not None else ""
    return f"{place(each.where) + '  ' if each.where else ''}{each.rule}{counted}"
