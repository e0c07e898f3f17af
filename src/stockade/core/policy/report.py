"""Where mistakes are written down: one report for each file, one limit for all.

Promises that every problem lies inside its file, that its excerpt is one line safe to print on a terminal, and that
the caret (``where.column``, ``length``) points into that excerpt.
"""

import re
from difflib import get_close_matches
from typing import NamedTuple

from stockade.core.model.ids import Address
from stockade.core.model.policy import Where
from stockade.core.model.problem import Problem

PROBLEM_LIMIT = 200
"""Problems that one reading lists; what comes after is counted only."""

_EXCERPT_LIMIT = 400
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


class Spot(NamedTuple):
    """A stretch of one line: 1-based line and column, and its length in characters."""

    line: int
    column: int
    length: int = 1


class Reference(NamedTuple):
    """Another document, named; whether there is one is known only once every file is read."""

    kind: str
    name: str
    spot: Spot


class Claim(NamedTuple):
    """An address that a document calls a workload's own; whether another does too is known once every file is read."""

    address: Address
    spot: Spot


class Tally:
    """How many problems were found in all files together."""

    def __init__(self) -> None:
        self.count = 0


class Report:
    """The problems of one file."""

    def __init__(self, file: str, text: str, tally: Tally) -> None:
        self.file = file
        self.lines = _BREAK.split(text)
        self.problems: list[Problem] = []
        self.references: list[Reference] = []
        self.claims: list[Claim] = []
        self._tally = tally

    @property
    def count(self) -> int:
        """How many problems were found so far, listed or not."""
        return self._tally.count

    @property
    def full(self) -> bool:
        """Whether what is found from now on is only counted, so that looking further is no use."""
        return self._tally.count > PROBLEM_LIMIT

    def where(self, spot: Spot) -> Where:
        """Return a place in this file."""
        return Where(self.file, spot.line, spot.column)

    def add(self, spot: Spot, message: str, expected: str = "", nearest: str = "") -> None:
        """Write down one problem."""
        self._tally.count += 1
        if self._tally.count <= PROBLEM_LIMIT:
            self.problems.append(self._problem(spot, message, expected, nearest))

    def spot(self, where: Where) -> Spot:
        """Return a place in this file as a stretch up to the end of its line."""
        line = self.lines[where.line - 1] if 0 < where.line <= len(self.lines) else ""
        return Spot(where.line, where.column, max(1, len(line.rstrip()) + 1 - where.column))

    def refer(self, kind: str, name: str, spot: Spot) -> None:
        """Note that another document is named here."""
        self.references.append(Reference(kind, name, spot))

    def claim(self, address: Address, spot: Spot) -> None:
        """Note that an address is called a workload's own here."""
        self.claims.append(Claim(address, spot))

    def _problem(self, spot: Spot, message: str, expected: str, nearest: str) -> Problem:
        line = self._inside(spot.line, len(self.lines))
        text = self.lines[line - 1]
        column = self._inside(spot.column, len(text) + 1)
        length = max(1, min(spot.length, len(text) + 1 - column))
        excerpt = printable(text) if len(text) <= _EXCERPT_LIMIT else ""
        where = Where(self.file, line, column)
        return Problem(where, printable(message), printable(expected), printable(nearest), excerpt, length)

    @staticmethod
    def _inside(number: int, last: int) -> int:
        return max(1, min(number, last))


def printable(text: str) -> str:
    """Return the text with each character that a terminal might act on replaced by one that it shows."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "·" for each in text)


def quoted(text: str) -> str:
    """Return a user's own text as a message names it: short, in quotes, printable."""
    shown = printable(text)
    return f'"{shown}"' if len(shown) <= 60 else f'"{shown[:57]}…"'


def nearest(word: str, candidates: tuple[str, ...] | list[str]) -> str:
    """Return the candidate that a user most likely meant, or an empty text."""
    by_lower = {each.lower(): each for each in candidates}
    close = get_close_matches(word.lower()[:80], list(by_lower), n=1, cutoff=0.6)
    return by_lower[close[0]] if close else ""


def listed(words: tuple[str, ...] | list[str]) -> str:
    """Return alternatives as a sentence lists them."""
    return " or ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} or {words[-1]}"


def advised(problem: Problem) -> str:
    """Return what is wrong and what would be right, in one line."""
    if problem.nearest and "did you mean" not in problem.message:
        near = problem.nearest if problem.nearest.startswith('"') else f'"{problem.nearest}"'
        return f"{problem.message}; did you mean {near}?"
    if problem.expected and problem.expected not in problem.message:
        return f"{problem.message} (expected {problem.expected})"
    return problem.message


def shown(problem: Problem) -> str:
    """Return a problem as plain text: the place, what is wrong, the line and a caret under the mistake."""
    head = f"{problem.where.file}:{problem.where.line}:{problem.where.column}: {advised(problem)}"
    if not problem.excerpt:
        return head
    gutter = f"{problem.where.line:>5}"
    caret = " " * (problem.where.column - 1) + "^" * problem.length
    return f"{head}\n{gutter} │ {problem.excerpt}\n{' ' * len(gutter)} │ {caret}"
