"""``stockade doctor``. Works without a server; where one answers, what it sees is added."""

from stockade.cli.exits import Exit
from stockade.cli.output import ALLOWED, DENIED, UNKNOWN, WOULD_DENY, View, dim, line
from stockade.cli.session import deliver
from stockade.cli.settings import NO_FLAGS, Common, Settings, resolve
from stockade.errors import StockadeError
from stockade.wire.api import Check, DoctorReply, Judged

MARKS = {
    Judged.GOOD: (ALLOWED, "good"),
    Judged.WARNING: (WOULD_DENY, "warning"),
    Judged.PROBLEM: (DENIED, "problem"),
    Judged.NOT_ASSESSED: (UNKNOWN, "not assessed"),
}
CODES = {
    Judged.GOOD: Exit.DONE,
    Judged.WARNING: Exit.LOOK,
    Judged.PROBLEM: Exit.LOOK,
    Judged.NOT_ASSESSED: Exit.NOT_ASSESSED,
}


def doctor(*, common: Common = NO_FLAGS) -> int:
    """What works on this machine, what will not, and why.

    Exits 2 where something is wrong or worth a look, 3 where nothing is but something could not be assessed.
    """
    from stockade.cli.machine_checks import checks, worst
    from stockade.cli.machine_facts import collect

    settings = resolve(common)
    found = together(
        _server(settings),
        checks(collect(settings.docker_host, settings.state, settings.socket, settings.containerd_address)),
    )
    deliver(settings, DoctorReply(checks=found), doctor_view)
    return CODES[worst(found)]


def together(server: tuple[Check, ...], local: tuple[Check, ...]) -> tuple[Check, ...]:
    """Return every check once: where both looked, the server's word counts, for it may look where we may not."""
    named = {check.name for check in server}
    return (*(check for check in local if check.name not in named), *server)


def _server(settings: Settings) -> tuple[Check, ...]:
    """The server's own checks; that there is none is no fault of the machine."""
    from stockade.cli.client import Client, Unreachable

    try:
        return Client(settings.socket).call("doctor", DoctorReply).checks
    except Unreachable:
        return (Check("server", Judged.GOOD, f"none runs at {settings.socket}"),)
    except StockadeError as problem:
        return (Check("server", Judged.PROBLEM, problem.message, problem.remedy),)


def doctor_view(reply: DoctorReply) -> View:
    """One line a check, its remedy below where there is something to do."""
    widest = max((len(each.name) for each in reply.checks), default=0)
    for each in reply.checks:
        mark, word = MARKS[each.judged]
        yield line(mark, f" {each.name:<{widest}}  {word:<12}  {each.found}")
        if each.remedy and each.judged is not Judged.GOOD:
            yield line(dim(f"      do: {each.remedy}"))
