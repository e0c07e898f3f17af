"""The order in which the lines of a program are tried (``docs/policy.md``, 2 and 3)."""

from collections.abc import Callable, Iterable

from stockade.core.model.intent import Line, Program, Tier
from stockade.core.model.policy import Mode

PASSING = (Tier.SPARED, Tier.ALLOW)


def enforces(program: Program | None) -> bool:
    """Tell whether rules, mode or quarantine may drop anything at an end with this program."""
    return program is not None and (program.quarantined or program.mode in (Mode.SELECTIVE, Mode.FULL))


def closed(program: Program | None) -> bool:
    """Tell whether an end with this program refuses whatever no line of it names."""
    return program is not None and (program.quarantined or program.mode is Mode.FULL)


def decide(program: Program, lines: Iterable[Line], speaks: Callable[[Line], bool]) -> bool:
    """Return what an end says of a connection: the first of its lines that ``speaks`` of it, else its mode.

    ``lines`` are those of one direction, sorted. Where the mode does not enforce, only quarantine decides.
    """
    for line in lines:
        if (line.tier <= Tier.CUT_REST or enforces(program)) and speaks(line):
            return line.tier in PASSING
    return program.mode is not Mode.FULL
