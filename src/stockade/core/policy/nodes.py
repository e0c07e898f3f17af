"""A policy file's bytes → YAML nodes with their places. Reads events, never objects.

Promises bounds on bytes, depth and documents before anything is built, and that whatever YAML allows and policy does
not (anchors, aliases, tags, control characters, other encodings) is a problem with a place. A document that is not
YAML ends there; reading goes on with the next one. Never raises.
"""

import re
from collections.abc import Iterator

import msgspec
import yaml

from stockade.core.policy.report import Report, Spot, Tally, quoted

BYTE_LIMIT = 4 * 1024 * 1024
"""Bytes in one file."""

DEPTH_LIMIT = 16
"""Lists and mappings within each other."""

DOCUMENT_LIMIT = 10_000
"""Documents in one file."""

NODE_LIMIT = 400_000
"""Texts, lists and mappings in one file."""

SYNTAX_LIMIT = 20
"""Documents of one file that are not YAML, before the rest of it is left unread."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NEXT_DOCUMENT = re.compile(r"---(\s|$)")


class SourceText(msgspec.Struct, frozen=True):
    """One policy file: the name that errors show, and its bytes as they are on disk."""

    name: str
    content: bytes


class Scalar(msgspec.Struct, frozen=True):
    """A text. ``plain`` where it stands without quotes, so that YAML might read it as something else."""

    value: str
    plain: bool
    spot: Spot
    exact: bool
    """Whether the value stands in the file character by character, so that an offset in it is one in the line."""
    inset: int = 0
    """How many characters (a quote) precede it."""

    def part(self, offset: int, length: int) -> Spot:
        """Return the place of a part of the value; the whole where that cannot be told."""
        if not self.exact:
            return self.spot
        return Spot(self.spot.line, self.spot.column + self.inset + offset, length)


class Items(msgspec.Struct, frozen=True):
    """A list."""

    items: tuple["Node", ...]
    spot: Spot


class Mapping(msgspec.Struct, frozen=True):
    """Keys and values in the order written, duplicates included. ``flow`` where it is written ``{…}``."""

    pairs: tuple[tuple["Node", "Node"], ...]
    spot: Spot
    flow: bool


Node = Scalar | Items | Mapping


def read_nodes(source: SourceText, tally: Tally) -> tuple[Report, list[Node]]:
    """Return the documents of a file, and the report that holds what is wrong with it so far."""
    report, text = read_text(source, tally)
    return report, [] if text is None else list(_documents(text, report))


def read_text(source: SourceText, tally: Tally) -> tuple[Report, str | None]:
    """Return a file's text, and the report for what is wrong with it; None where it cannot be read as text at all."""
    text = _decoded(source.content)
    report = Report(source.name, text, tally)
    if len(source.content) > BYTE_LIMIT:
        report.add(Spot(1, 1), f"the file has {len(source.content):,} bytes", f"at most {BYTE_LIMIT:,} bytes")
        return report, None
    return report, None if _unreadable(source.content, text, report) else text


def _decoded(content: bytes) -> str:
    return content[: BYTE_LIMIT + 1].decode("utf-8-sig", errors="replace")


def _unreadable(content: bytes, text: str, report: Report) -> bool:
    """Tell, and write down, whether the file is not UTF-8 or holds what YAML forbids."""
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", errors="replace")
        report.add(_end_of(before, report), f"byte 0x{content[error.start]:02x} is not UTF-8", "UTF-8 text")
        return True
    if found := _UNPRINTABLE.search(text):
        spot = _end_of(text[: found.start()], report)
        report.add(spot, f"control character U+{ord(found[0]):04X}", "printable text")
        return True
    return False


def _end_of(before: str, report: Report) -> Spot:
    lines = Report(report.file, before, Tally()).lines
    return Spot(len(lines), len(lines[-1]) + 1)


def _documents(text: str, report: Report) -> Iterator[Node]:
    """Yield each document; after one that is not YAML go on at the next ``---``, with the line numbers kept."""
    start = 0
    yielded = counted = 0
    for _ in range(SYNTAX_LIMIT):
        rest = "\n" * start + "\n".join(report.lines[start:]) if start else text
        composer = _Composer(rest, report, counted)
        try:
            for document in composer.documents():
                yielded += 1
                if yielded > DOCUMENT_LIMIT:
                    report.add(document.spot, "too many documents in one file", f"at most {DOCUMENT_LIMIT:,}")
                    return
                yield document
        except _Refused as refused:
            report.add(*refused.args)
        except yaml.YAMLError as error:
            report.add(*_explained(error, report))
        else:
            return
        counted = composer.count
        after = _next_document(report.lines, max(composer.started, start))
        if after is None:
            return
        start = after


def _next_document(lines: list[str], begun: int) -> int | None:
    """Return the index of the first line after the one numbered ``begun`` (from 0) that begins a document."""
    for index in range(begun + 1, len(lines)):
        if _NEXT_DOCUMENT.match(lines[index]):
            return index
    return None


class _Refused(Exception):  # noqa: N818 - reads as what happened
    """This document goes no further: (spot, message, expected)."""


class _Composer:
    """Events → nodes, with a bound on depth. ``started`` is the line (from 0) at which the present document began."""

    def __init__(self, text: str, report: Report, count: int) -> None:
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self.report = report
        self.started = 0
        self.count = count

    def documents(self) -> Iterator[Node]:
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.started = _spot(event).line - 1
                yield self.node(next(self.events), 0)

    def node(self, event: yaml.Event, depth: int) -> Node:
        self.count += 1
        self.refuse(event, depth)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(tuple(self.children(yaml.SequenceEndEvent, depth)), _spot(event))
        flow = isinstance(event, yaml.MappingStartEvent) and bool(event.flow_style)
        children = self.children(yaml.MappingEndEvent, depth)
        return Mapping(tuple(zip(children, children, strict=True)), _spot(event), flow)

    def children(self, end: type[yaml.Event], depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self.events), end):
            yield self.node(event, depth + 1)

    def refuse(self, event: yaml.Event, depth: int) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused(_spot(event), "anchors and aliases are not part of policy files", "the text itself")
        if getattr(event, "tag", None) and not isinstance(event, yaml.AliasEvent):
            raise _Refused(_spot(event), "tags are not part of policy files", "the value without its tag")
        if self.count > NODE_LIMIT:
            raise _Refused(_spot(event), "the file holds too much", f"at most {NODE_LIMIT:,} texts, lists and mappings")
        if depth > DEPTH_LIMIT:
            raise _Refused(_spot(event), "nested too deeply", f"at most {DEPTH_LIMIT} levels")

    def scalar(self, event: yaml.ScalarEvent) -> Scalar:
        spot = _spot(event)
        inset = 1 if event.style in ("'", '"') else 0
        column = spot.column - 1 + inset
        line = self.report.lines[spot.line - 1] if spot.line <= len(self.report.lines) else ""
        exact = event.style not in ("|", ">") and line[column : column + len(event.value)] == event.value
        return Scalar(event.value, not event.style, spot, exact, inset)


def _spot(event: yaml.Event) -> Spot:
    start, end = event.start_mark, event.end_mark
    if start is None or end is None:
        return Spot(1, 1)
    length = end.column - start.column if end.line == start.line else 1
    return Spot(start.line + 1, start.column + 1, max(1, length))


# What a YAML parser says, in words


def _explained(error: yaml.YAMLError, report: Report) -> tuple[Spot, str, str]:
    """Return the place of a syntax error, what it means, and what was expected."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = str(getattr(error, "problem", None) or "unreadable")
    spot = Spot(mark.line + 1, mark.column + 1) if mark is not None else Spot(1, 1)
    line = report.lines[spot.line - 1] if spot.line <= len(report.lines) else ""
    if "\t" in line[: spot.column] and not line[: spot.column - 1].strip():
        return spot, "a tab cannot indent YAML", "spaces"
    if "mapping values are not allowed" in said:
        return spot, 'a ":" too many on this line', 'one "key: value" a line; quote a text that holds ": "'
    context = str(getattr(error, "context", None) or "")
    opened = getattr(error, "context_mark", None)
    if "flow node" in context:
        return spot, "a {…} or […] before this is not closed, or an item in it cannot be read", "a comma between items"
    if opened is not None and "flow" in context:
        bracket = "{…}" if "mapping" in context else "[…]"
        here = Spot(opened.line + 1, opened.column + 1)
        return here, f"this {bracket} is not closed, or an item in it cannot be read", "a comma between items"
    if opened is not None and "quoted scalar" in context:
        return Spot(opened.line + 1, opened.column + 1), f"this quoted text cannot be read: {said}", "a closing quote"
    if "cannot start any token" in said:
        return spot, f"a text cannot begin with {quoted(line[spot.column - 1 : spot.column])}", "the text in quotes"
    return spot, f"not YAML: {said}", ""
