"""Mistakes in policy files as text: place, message, nearest spelling, the line with the mistake underlined."""

from collections.abc import Iterable

from stockade.cli.output import Span, View, line
from stockade.core.model.policy import Where
from stockade.core.model.problem import Problem


def place(where: Where) -> str:
    """Return ``file:line:column`` as editors take it, or ``built-in``."""
    if not where.line:
        return where.file
    return f"{where.file}:{where.line}:{where.column}" if where.column else f"{where.file}:{where.line}"


def short(where: Where) -> str:
    """Return ``file:line``, without the folder: how listings name a rule's place."""
    name = where.file.rpartition("/")[2]
    return f"{name}:{where.line}" if where.line else name


def problem_lines(problems: Iterable[Problem]) -> View:
    """Each problem: one line that says it, then the text with the mistake underlined."""
    from stockade.core.policy import advised

    for each in problems:
        yield line(Span(place(each.where), "bold"), ": ", advised(each))
        if each.excerpt:
            number = str(each.where.line)
            margin = " " * (4 + len(number))
            yield line(f"    {number} │ ", each.excerpt)
            if each.where.column:
                yield line(f"{margin} │ ", " " * (each.where.column - 1), Span("^" * max(each.length, 1), "red"))
