"""``stockade apply``, and how a new version is reported wherever one is made."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stockade.cli.durations import WAIT, Seconds, Wait
from stockade.cli.exits import Exit
from stockade.cli.files import read_files
from stockade.cli.moments import stamp
from stockade.cli.output import ALLOWED, WOULD_DENY, View, bold, line, remark, show
from stockade.cli.plan import plan_view
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common, Format
from stockade.core.plan.values import Plan
from stockade.errors import StockadeError
from stockade.wire.api import ApplyRequest, PlanReply, PlanRequest, VersionReply

AcceptNarrower = Annotated[bool, Parameter(negative="", help="Go on although something of it cannot be enforced here.")]


def apply(
    *paths: Annotated[Path, Parameter(help="A folder, or files. - is stdin (then with --yes).")],
    note: Annotated[str, Parameter(help="Why; kept with the version.")] = "",
    yes: Annotated[bool, Parameter(negative="", help="Do not ask.")] = False,
    confirm: Annotated[
        Seconds | None, Parameter(help="As 60s or 5m: the earlier version returns unless `stockade confirm` follows.")
    ] = None,
    accept_narrower: AcceptNarrower = False,
    wait: Wait = WAIT,
    common: Common = NO_FLAGS,
) -> int:
    """Show the plan, ask, and make the draft the active version.

    Without a terminal it needs --yes. What was approved is what is applied: if another version became active in
    between, nothing is done.
    """
    settings, client = connect(common)
    files = read_files(paths or (Path(),))
    it = client.call("plan", PlanReply, PlanRequest(files=files, pairs=0)).plan
    _show_plan(it, settings.output)
    _refuse(it, accept_narrower=accept_narrower)
    if it.empty:
        remark(f"Version {it.against} stays active; no version was made.")
        return Exit.DONE
    if not yes and not _approved(it):
        remark(f"Not applied. Version {it.against} stays in force.")
        return Exit.DONE
    request = ApplyRequest(
        files=files, note=note, expect=it.id, confirm=confirm, accept_narrower=accept_narrower, wait=wait
    )
    reply = client.call("apply", VersionReply, request)
    deliver(settings, reply, version_view)
    return version_code(reply)


def version_view(reply: VersionReply) -> View:
    """What became of a new version."""
    version = reply.version
    if reply.unchanged:
        yield line(f"Version {version.number} is active already; no version was made.")
        return
    note = f' "{version.note}"' if version.note else ""
    brought = f", which is version {version.restores} again" if version.restores is not None else ""
    yield line(ALLOWED, bold(f" Version {version.number}"), f"{note} by {version.author} is active{brought}.")
    if reply.realised:
        yield line("  in force on every host")
    elif reply.waiting:
        yield line("  ", WOULD_DENY, f" not yet in force on {', '.join(reply.waiting)}; look with: stockade status")
    if reply.pending:
        waits = reply.pending
        yield line("  ", WOULD_DENY, f" version {waits.returns_to} returns at {stamp(waits.deadline)} unless you say:")
        yield line("    stockade confirm")
    elif not brought:
        yield line(f"  take it back:  stockade rollback {max(version.number - 1, 0)}")


def version_code(reply: VersionReply) -> Exit:
    """Return the exit code of a version that was made: 2 where something still waits."""
    return Exit.LOOK if reply.waiting or reply.pending else Exit.DONE


def _show_plan(it: Plan, form: Format) -> None:
    """The plan is a remark where data was asked for in another form: stdout then holds the new version alone."""
    if form is Format.TABLE:
        show(plan_view(it))
        return
    for spans in plan_view(it):
        remark(*spans)


def _refuse(it: Plan, *, accept_narrower: bool) -> None:
    if refused := it.refused:
        raise StockadeError(
            f"this draft must not be applied: {refused[0]}"
            + (f" (and {len(refused) - 1} more)" if refused[1:] else ""),
            kept=f"version {it.against} stays in force",
            remedy="mend what failed above, then plan again",
        )
    if it.narrower and not accept_narrower:
        raise StockadeError(
            f"cannot be enforced here: {', '.join(sorted({each.subject for each in it.narrower}))}",
            kept=f"version {it.against} stays in force",
            remedy="--accept-narrower applies the rest; a rule that is named opens nothing then, "
            "a workload is judged at its peers alone",
        )


def _approved(it: Plan) -> bool:
    if not sys.stdin.isatty():
        raise StockadeError(
            "there is no terminal to ask on",
            kept=f"version {it.against} stays in force",
            remedy="say --yes after reading the plan above",
        )
    print(f"\nMake this version {it.against + 1}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
