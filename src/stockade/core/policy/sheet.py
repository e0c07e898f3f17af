"""A table of workloads without an agent (CSV, RFC 4180) → ``Workload`` documents as values, and every mistake in it.

Promises what ``read`` promises: never to raise, whatever the bytes; that each problem has a place inside the file; and
that what it returns without a problem is written as documents that ``read`` accepts.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from stockade.core.model.ids import Address
from stockade.core.model.inventory import WorkloadKind
from stockade.core.model.labels import NAME as NAME_DIMENSION
from stockade.core.model.policy import PolicySet, UnmanagedWorkload
from stockade.core.model.problem import Problem
from stockade.core.policy.documents import to_documents
from stockade.core.policy.kinds import (
    ADDRESS_LIMIT,
    WITHOUT_AGENT,
    WORKLOAD_DESCRIPTION,
    WORKLOAD_HOST,
)
from stockade.core.policy.names import LABEL_LIMIT, NAMED, SHOWN_VALUE
from stockade.core.policy.networks import OWN_ADDRESS
from stockade.core.policy.nodes import BYTE_LIMIT, DOCUMENT_LIMIT, NODE_LIMIT, Scalar, SourceText, read_text
from stockade.core.policy.read import claimed_once
from stockade.core.policy.report import Report, Spot, Tally, listed, nearest, quoted
from stockade.core.select import is_key

COLUMNS = ("name", "addresses", "host", "kind", "description")
"""The columns with a meaning of their own; every other is a label, its header the key."""
LABEL_PREFIX = "label:"
"""Before a header: a label, whatever it is called."""
ROW_LIMIT = DOCUMENT_LIMIT
"""Workloads in one table: they become documents of one file."""

_ALIASES = {"address": "addresses"}
_SEPARATORS = ",;\t"
_BREAK = re.compile("\r\n|[\r\n]")
_LINE = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"[ ]*')
_END = {each: re.compile(f"[{each}\r\n]") for each in _SEPARATORS}
_WITHIN = re.compile(r"[^\s,;]+")


class Sheet(msgspec.Struct, frozen=True):
    """What a table says, as values and written as documents. Where there are problems there is nothing of it."""

    workloads: tuple[UnmanagedWorkload, ...] = ()
    documents: str = ""
    problems: tuple[Problem, ...] = ()
    unlisted: int = 0
    """Problems beyond those that are listed."""


class Cell(NamedTuple):
    """A cell's text without blanks around it, and where that begins in the file."""

    text: str
    offset: int
    exact: bool = True
    """Whether the file holds the text as it is, so that a part of it can be pointed at."""


def read_sheet(source: SourceText) -> Sheet:
    """Read a table of workloads. The first row that holds anything is the header."""
    tally = Tally()
    report, text = read_text(source, tally)
    workloads: tuple[UnmanagedWorkload, ...] = ()
    if text is not None:
        workloads = _Reader(text, report).workloads()
        claimed_once([report])
    documents = "" if report.count else to_documents(PolicySet(workloads=workloads))
    _bound(documents, workloads, report)
    problems = tuple(sorted(report.problems, key=lambda each: each.where))
    return Sheet(problems=problems, unlisted=report.count - len(problems)) if problems else Sheet(workloads, documents)


def _bound(documents: str, workloads: tuple[UnmanagedWorkload, ...], report: Report) -> None:
    """Refuse what is more than one file of documents may hold."""
    size, nodes = len(documents.encode()), sum(map(_nodes, workloads))
    if not report.count and (size > BYTE_LIMIT or nodes > NODE_LIMIT):
        message = f"the documents would have {size:,} bytes and {nodes:,} texts, lists and mappings"
        report.add(Spot(1, 1), message, f"at most {BYTE_LIMIT:,} and {NODE_LIMIT:,}: split the table")


def _nodes(workload: UnmanagedWorkload) -> int:
    """Count the texts, lists and mappings of a workload's document."""
    optional = (workload.host, workload.kind is not WorkloadKind.UNMANAGED, workload.description)
    labels = 2 + 2 * len(workload.labels) if workload.labels else 0
    return 12 + labels + len(workload.addresses) + 2 * sum(map(bool, optional)) + 1


class _Reader:
    """One table, read row by row. Positions are made of offsets only where something is wrong."""

    def __init__(self, text: str, report: Report) -> None:
        self.text = text
        self.report = report
        self.starts = [0, *(found.end() for found in _LINE.finditer(text))]
        self.header: list[str] = []
        self.names: dict[str, int] = {}
        self.values: set[str] = set()

    def workloads(self) -> tuple[UnmanagedWorkload, ...]:
        rows = (row for row in self.rows() if any(cell.text for cell in row))
        first = next(rows, None)
        if first is None:
            self.report.add(Spot(1, 1), "the table is empty", f"a header: {', '.join(COLUMNS[:2])}, and labels")
            return ()
        if not self.read_header(first):
            return ()
        found = []
        for number, row in enumerate(rows):
            if number >= ROW_LIMIT:
                self.add(row[0], f"more than {ROW_LIMIT:,} workloads", "several tables")
                break
            if self.report.full:
                break
            if (workload := self.workload(row)) is not None:
                found.append(workload)
        if not found and not self.report.count:
            self.report.add(Spot(1, 1), "the table holds no workload", "a row under the header")
        return tuple(sorted(found, key=lambda each: each.name))

    # Rows and cells

    def rows(self) -> Iterator[list[Cell]]:
        """Yield every row, empty ones too; what follows a quote that is never closed is not read."""
        separator = self.separator()
        at = 0
        while at < len(self.text):
            row: list[Cell] = []
            while True:
                cell, at = self.cell(at, separator)
                row.append(cell)
                if at >= len(self.text) or self.text[at] != separator:
                    break
                at += 1
            if at < len(self.text):
                if (ended := _BREAK.match(self.text, at)) is None:
                    self.report.add(self.spot(at), "text after a closing quote", 'a quote inside quotes written ""')
                    return
                at = ended.end()
            yield row

    def separator(self) -> str:
        """Return the comma, semicolon or tab that comes first in the header."""
        return next((each for each in self.text if each in _SEPARATORS), ",")

    def cell(self, at: int, separator: str) -> tuple[Cell, int]:
        """Return the cell that begins at an offset, and the offset after it."""
        text = self.text
        begun = at
        while begun < len(text) and text[begun] == " ":
            begun += 1
        if begun < len(text) and text[begun] == '"':
            return self.quoted_cell(begun)
        ended = _END[separator].search(text, at)
        end = ended.start() if ended else len(text)
        raw = text[at:end]
        return Cell(raw.strip(), at + len(raw) - len(raw.lstrip())), end

    def quoted_cell(self, at: int) -> tuple[Cell, int]:
        """Return a cell in quotes: what is in them, in which a doubled quote is one."""
        found = _QUOTED.match(self.text, at)
        if found is None:
            self.report.add(self.spot(at), "this quote is never closed", "a closing quote")
            return Cell("", at), len(self.text)
        inside = found[1]
        stripped = inside.lstrip()
        offset = at + 1 + len(inside) - len(stripped)
        return Cell(stripped.rstrip().replace('""', '"'), offset, '""' not in inside), found.end()

    def spot(self, offset: int, length: int = 1) -> Spot:
        line = bisect_right(self.starts, offset)
        return Spot(line, offset - self.starts[line - 1] + 1, max(length, 1))

    def add(self, cell: Cell, message: str, expected: str, near: str = "") -> None:
        self.report.add(self.spot(cell.offset, len(cell.text)), message, expected, near)

    def scalar(self, cell: Cell) -> Scalar:
        return Scalar(cell.text, False, self.spot(cell.offset, len(cell.text)), cell.exact, 0)

    # What they say

    def read_header(self, row: list[Cell]) -> bool:
        """Take the header's columns; tell whether rows can be read under them."""
        before = self.report.count
        seen: set[str] = set()
        for cell in row:
            column = self.column(cell)
            if column in seen:
                self.add(cell, f"a second column {quoted(cell.text)}", "each column once")
            seen.add(column)
            self.header.append(column)
        missing = [each for each in COLUMNS[:2] if each not in seen]
        if missing and self.report.count == before:
            self.add(
                row[0], f"the header lacks the column {listed(missing)}", f"{COLUMNS[0]}, {COLUMNS[1]}, and labels"
            )
        labels = len(seen - set(COLUMNS))
        if labels > LABEL_LIMIT:
            self.add(row[-1], f"{labels} columns of labels", f"at most {LABEL_LIMIT}")
        return self.report.count == before

    def column(self, cell: Cell) -> str:
        """Return a known column, or a label's key behind its prefix. A typing mistake must not become a label."""
        said = cell.text.lower()
        if _ALIASES.get(said, said) in COLUMNS:
            return _ALIASES.get(said, said)
        forced = cell.text.startswith(LABEL_PREFIX)
        key = cell.text.removeprefix(LABEL_PREFIX)
        if not cell.text:
            self.add(cell, "a column without a header", "a label's key, or no column")
        elif key == NAME_DIMENSION:
            self.add(cell, '"name" is the workload\'s own name and cannot be set', "another key")
        elif not is_key(key):
            self.add(cell, f"{quoted(key)} cannot be a label's key", "letters, digits and _ . / -; no keyword")
        elif not forced and (near := _mistyped(said)):
            self.add(
                cell,
                f"unknown column {quoted(cell.text)}",
                f"{near}; a label of this name is {LABEL_PREFIX}{key}",
                near,
            )
        return LABEL_PREFIX + key

    def workload(self, row: list[Cell]) -> UnmanagedWorkload | None:
        """Read one row; None where anything is wrong with it."""
        before = self.report.count
        if len(row) != len(self.header):
            cell = row[min(len(row), len(self.header) + 1) - 1]
            self.add(cell, f"this row has {len(row)} cells, the header {len(self.header)}", "as many as the header")
            return None
        said = {column: cell for column, cell in zip(self.header, row, strict=True) if cell.text}
        name, addresses = self.name(said.get("name"), row), self.addresses(said.get("addresses"), row)
        host = WORKLOAD_HOST.read(self.scalar(said["host"]), self.report) if "host" in said else ""
        kind = WITHOUT_AGENT.read(self.scalar(said["kind"]), self.report) if "kind" in said else None
        about = (
            WORKLOAD_DESCRIPTION.read(self.scalar(said["description"]), self.report) if "description" in said else ""
        )
        labels = self.labels(said)
        if self.report.count != before or not name:
            return None
        known = WorkloadKind(kind.value) if kind else WorkloadKind.UNMANAGED
        return UnmanagedWorkload(name, addresses, labels, host or "", known, about or "")

    def name(self, cell: Cell | None, row: list[Cell]) -> str:
        if cell is None:
            self.add(row[self.header.index("name")], "this row has no name", "a name")
            return ""
        name = NAMED.read(self.scalar(cell), self.report) or ""
        line = self.spot(cell.offset).line
        if name and self.names.setdefault(name, line) != line:
            first = f"{self.report.file}:{self.names[name]}"
            self.add(cell, f"a second workload named {quoted(name)}", f"another name (see {first})")
        return name

    def addresses(self, cell: Cell | None, row: list[Cell]) -> tuple[Address, ...]:
        """Read the addresses of a cell: blanks, commas or semicolons are between them."""
        if cell is None:
            self.add(row[self.header.index("addresses")], "this row has no address", "one address or more")
            return ()
        parts = list(_WITHIN.finditer(cell.text))
        if len(parts) > ADDRESS_LIMIT:
            self.add(cell, f"{len(parts)} addresses", f"at most {ADDRESS_LIMIT}")
            return ()
        cells = (Cell(part[0], cell.offset + part.start() if cell.exact else cell.offset) for part in parts)
        read = (OWN_ADDRESS.read(self.scalar(each), self.report) for each in cells)
        return tuple(sorted({each for each in read if each is not None}))

    def labels(self, said: dict[str, Cell]) -> tuple[tuple[str, str], ...]:
        """Read the cells of label columns; an empty one sets no label."""
        found = []
        for column, cell in said.items():
            if column.startswith(LABEL_PREFIX):
                found.append((column.removeprefix(LABEL_PREFIX), self.value(cell)))
        return tuple(sorted(found))

    def value(self, cell: Cell) -> str:
        """Read a label's value; the same few are met in every row."""
        if cell.text not in self.values:
            if (value := SHOWN_VALUE.read(self.scalar(cell), self.report)) is None:
                return ""
            self.values.add(value)
        return cell.text


def _mistyped(said: str) -> str:
    """Return the column that a header was most likely meant to be; empty where it is a word of its own."""
    close = nearest(said, [*COLUMNS, *_ALIASES])
    return _ALIASES.get(close, close) if close and _few_edits(said, close) else ""


def _few_edits(one: str, other: str) -> bool:
    """Tell whether two words have nearly the same letters: a slip of the hand, no other word."""
    return len(set(one) ^ set(other)) <= 1 and abs(len(one) - len(other)) <= 1
