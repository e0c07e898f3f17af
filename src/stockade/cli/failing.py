"""How a verb fails: three lines on stderr (what happened, what was kept, what to do next), never a traceback."""

import os
import sys
import traceback
from collections.abc import Callable, Iterable

from stockade.cli.exits import Exit
from stockade.errors import StockadeError

TRACE = "STOCKADE_TRACE"
"""Set to 1, the place in the program is shown as well: for whoever looks for a bug."""


def guarded(run: Callable[[], int]) -> int:
    """Run a verb and return its exit code, whatever happens in it."""
    try:
        return run()
    except StockadeError as error:
        report(error)
        return Exit.ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return Exit.DONE
    except OSError as problem:
        report(_system(problem))
        return Exit.ERROR
    except Exception as bug:  # noqa: BLE001 - the one place where a bug meets its user
        report(_bug(bug))
        return Exit.ERROR


def report(error: StockadeError) -> None:
    """Print what happened, what was kept, what to do next, and the problems of refused documents."""
    from stockade.cli.output import _write, line
    from stockade.cli.problems import problem_lines

    _write(problem_lines(getattr(error, "problems", ())), sys.stderr)
    _write((line(*each) for each in _three(error)), sys.stderr)


def _three(error: StockadeError) -> Iterable[tuple[str, str]]:
    yield "error  ", error.message
    yield "kept   ", error.kept or "nothing was changed"
    yield "next   ", error.remedy or "stockade --help"


def _system(problem: OSError) -> StockadeError:
    what = f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem)
    return StockadeError(what, kept="what is in force stays in force", remedy="correct it and try again")


def _bug(bug: BaseException) -> StockadeError:
    if os.environ.get(TRACE):
        traceback.print_exception(bug)
    while bug.__cause__ is not None:
        bug = bug.__cause__
    place = traceback.extract_tb(bug.__traceback__)[-1]
    where = "/".join(place.filename.split("/")[-3:])
    return StockadeError(
        f"a bug in Stockade: {type(bug).__name__}: {bug} ({where}:{place.lineno})",
        kept="what is in force stays in force",
        remedy=f"report it with this text; {TRACE}=1 shows the way there",
    )


def _close_stdout() -> None:
    # The reader has gone (`| head`). Python would complain once more when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
