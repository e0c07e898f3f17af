"""Files of policy → a draft: the documents as values, and every mistake in all of them.

Promises never to raise, whatever the bytes; that a document with a mistake in it is refused whole; and that each
problem has a place inside its file. Looks only at what it is given: no file is opened, no document fetched.
"""

from collections.abc import Iterable
from typing import cast

import msgspec

from stockade.core.model.ids import Address, RuleId
from stockade.core.model.policy import PER_HOST_SET, Action, Networks, NetworkSet, Policy, PolicySet, Rule, Where
from stockade.core.model.problem import Problem
from stockade.core.policy import builtin, words
from stockade.core.policy.forms import Field, Form, Given, record, scalar
from stockade.core.policy.kinds import API_VERSION, KINDS
from stockade.core.policy.names import METADATA, Called
from stockade.core.policy.nodes import Mapping, Node, SourceText, read_nodes
from stockade.core.policy.report import Report, Spot, Tally, nearest, quoted
from stockade.core.policy.sets import Document, policy_set

FILE_LIMIT = 10_000
"""Files in one draft."""
TOTAL_LIMIT = 64 * 1024 * 1024
"""Bytes in all files together."""


class Written(msgspec.Struct, frozen=True, order=True):
    """A document that was found, whether or not it could be read: what it says it is, and where."""

    kind: str
    name: str
    where: Where


class Draft(msgspec.Struct, frozen=True):
    """What was read. Where there are problems, ``policy`` holds the other documents and must not become active."""

    policy: PolicySet = PolicySet()
    problems: tuple[Problem, ...] = ()
    documents: tuple[Written, ...] = ()
    unlisted: int = 0
    """Problems beyond those that are listed."""


def read(files: Iterable[SourceText]) -> Draft:
    """Read all files of a draft together: documents may name each other across files, whatever their order."""
    reader = _Reader()
    total = 0
    for number, source in enumerate(sorted(files, key=lambda each: each.name)):
        total += len(source.content)
        if number >= FILE_LIMIT or total > TOTAL_LIMIT:
            reader.refuse(source, f"too much: {number + 1:,} files, {total:,} bytes")
            break
        reader.file(source)
    reader.resolve()
    problems = tuple(sorted((p for report in reader.reports for p in report.problems), key=lambda p: p.where))
    return Draft(
        policy_set(document for document, _ in reader.documents),
        problems,
        tuple(sorted(reader.written)),
        unlisted=reader.tally.count - len(problems),
    )


class _Head(msgspec.Struct, frozen=True):
    kind: str | None
    called: Called | None
    spec: Node | None
    place: Spot


def _api_version(node: Node, report: Report) -> str | None:
    found = scalar(node, report, "a version")
    if found is not None and found.value != API_VERSION:
        report.add(found.spot, f"unknown apiVersion {quoted(found.value)}", API_VERSION, API_VERSION)
        return None
    return None if found is None else found.value


def _kind(node: Node, report: Report) -> str | None:
    found = scalar(node, report, "a kind")
    if found is not None and found.value not in KINDS:
        report.add(
            found.spot, f"unknown kind {quoted(found.value)}", ", ".join(KINDS), nearest(found.value, list(KINDS))
        )
        return None
    return None if found is None else found.value


def _node(node: Node, _report: Report) -> Node | None:
    return node


_API_VERSION = Field("apiVersion", Form(_api_version, {"const": API_VERSION}), API_VERSION, required=True)
_KIND = Field("kind", Form(_kind, {"enum": list(KINDS)}), "what the document is", required=True)
_METADATA = Field("metadata", METADATA, "its name", required=True)
_SPEC = Field("spec", cast("Form[Node]", Form(_node, {"type": "object"})), "what it says", required=True)


def _head(given: Given) -> _Head:
    given.read(_API_VERSION)
    return _Head(given.read(_KIND), given.read(_METADATA), given.read(_SPEC), given.key(_SPEC))


HEAD: Form[_Head] = record("the document", (_API_VERSION, _KIND, _METADATA, _SPEC), _head)


class _Reader:
    def __init__(self) -> None:
        self.tally = Tally()
        self.reports: list[Report] = []
        self.documents: list[tuple[Document, Report]] = []
        self.written: list[Written] = []
        self.seen: dict[tuple[str, str], Where] = {}

    def refuse(self, source: SourceText, message: str) -> None:
        report = Report(source.name, "", self.tally)
        report.add(Spot(1, 1), message, f"at most {FILE_LIMIT:,} files and {TOTAL_LIMIT:,} bytes in one draft")
        self.reports.append(report)

    def file(self, source: SourceText) -> None:
        before = self.tally.count
        report, nodes = read_nodes(source, self.tally)
        self.reports.append(report)
        for node in nodes:
            if not report.full:
                self.document(node, report)
        if not nodes and self.tally.count == before:
            report.add(Spot(1, 1), "the file holds no document", f"apiVersion: {API_VERSION} and so on")

    def document(self, node: Node, report: Report) -> None:
        if not isinstance(node, Mapping) and getattr(node, "value", None) == "":
            report.add(node.spot, "this document is empty", "a document, or no --- around nothing")
            return
        before = report.count
        head = HEAD.read(node, report)
        if head is None or head.kind is None:
            return
        where = report.where(head.place)
        if head.called is not None:
            self.declare(head.kind, head.called, where, report)
        document = None if head.spec is None else KINDS[head.kind].read(head.spec, report)
        if document is not None and head.called is not None and report.count == before:
            self.documents.append((_named(document, head.called.name, where), report))

    def declare(self, kind: str, called: Called, where: Where, report: Report) -> None:
        """Note that a document exists: others may name it even where it cannot be read."""
        name, place = called
        first = self.seen.setdefault((kind, name), where)
        if first is not where:
            report.add(place, f"a second {kind} named {quoted(name)}", f"another name (see {first.file}:{first.line})")
        if kind == "Service" and (name in words.PROTOCOLS or name.isdecimal()):
            report.add(place, f"{quoted(name)} cannot name a service: it is written in on: already", "another name")
        self.written.append(Written(kind, name, where))

    def resolve(self) -> None:
        """Write down each name of a document that does not exist, and each deny of what only an allow may name."""
        known = {kind: builtin.names(kind) | {n for k, n in self.seen if k == kind} for kind in _NOUNS}
        for report in self.reports:
            for kind, name, spot in report.references:
                if name not in known[kind]:
                    close = nearest(name, sorted(known[kind]))
                    report.add(spot, f"unknown {_NOUNS[kind]} {quoted(name)}", f"the name of a {_NOUNS[kind]}", close)
        claimed_once(self.reports)
        self.allow_only()

    def allow_only(self) -> None:
        """FQDNs are learnt from answers, so that a deny of them would let through whatever was not learnt yet."""
        named = {each.name for each, _ in self.documents if isinstance(each, NetworkSet) and each.fqdns}
        for document, report in self.documents:
            if isinstance(document, NetworkSet) and document.name == PER_HOST_SET and document.fqdns:
                report.add(report.spot(document.where), f"{PER_HOST_SET} holds addresses alone", "cidrs")
            for rule in document.rules if isinstance(document, Policy) else ():
                if rule.action is not Action.ALLOW and (fqdns := _names(rule) & named):
                    message = f"{quoted(min(fqdns))} holds FQDNs, which only an allow may name"
                    report.add(report.spot(rule.where), message, "a network set of CIDRs alone")


def claimed_once(reports: Iterable[Report]) -> None:
    """Write down each address that two documents claim: it would be one's or the other's by chance."""
    first: dict[Address, Where] = {}
    for report in reports:
        for address, spot in report.claims:
            where = report.where(spot)
            if first.setdefault(address, where) is not where:
                at = first[address]
                message = f"{quoted(address)} is claimed already (see {at.file}:{at.line})"
                report.add(spot, message, "an address that no other workload claims")


_NOUNS = {"Service": "service", "NetworkSet": "network set"}


def _names(rule: Rule) -> set[str]:
    ends = (rule.source, rule.destination)
    return {name for end in ends if isinstance(end, Networks) for name in end.names}


def _named(document: Document, name: str, where: Where) -> Document:
    """Put a document's name and place into it, and into the ids of its rules."""
    if isinstance(document, Policy):
        rules = tuple(msgspec.structs.replace(rule, id=RuleId(f"{name}/{rule.id}")) for rule in document.rules)
        return msgspec.structs.replace(document, name=name, where=where, rules=rules)
    return msgspec.structs.replace(document, name=name, where=where)
