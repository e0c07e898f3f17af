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
    found = checks(collect(settings.docker_host, settings.state)) + _server(settings)
    deliver(settings, DoctorReply(checks=found), doctor_view)
    return CODES[worst(found)]


def _server(settings: Settings) -> tuple[Check, ...]:
    """The server's own checks, each under a name of its own; that there is none is no fault of the machine."""
    from stockade.cli.client import Client, Unreachable

    try:
        reply = Client(settings.socket).call("doctor", DoctorReply)
    except Unreachable:
        return (Check("server", Judged.GOOD, f"none runs at {settings.socket}"),)
    except StockadeError as problem:
        return (Check("server", Judged.PROBLEM, problem.message, problem.remedy),)
    return tuple(Check(f"server: {each.name}", each.judged, each.found, each.remedy) for each in reply.checks)


def doctor_view(reply: DoctorReply) -> View:
    """One line a check, its remedy below where there is something to do."""
    widest = max((len(each.name) for each in reply.checks), default=0)
    for each in reply.checks:
        mark, word = MARKS[each.judged]
        yield line(mark, f" {each.name:<{widest}}  {word:<12}  {each.found}")
        if each.remedy and each.judged is not Judged.GOOD:
            yield line(dim(f"      do: {each.remedy}"))
