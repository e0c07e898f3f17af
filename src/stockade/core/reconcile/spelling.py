"""A step as text for nft 1.0.6, one transaction. Nothing unescaped reaches it: what cannot be spelled is refused."""

import re
from collections.abc import Iterable, Iterator

from stockade.core.compile.nft.ruleset import TABLE, ElementSet
from stockade.core.reconcile.operations import (
    AddChain,
    AddCounter,
    AddElements,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteCounter,
    DeleteElements,
    DeleteSet,
    DeleteTable,
    FillChain,
    FlushChain,
    FlushSet,
    Operation,
    Step,
)
from stockade.core.reconcile.references import key_of
from stockade.errors import StockadeError

LONGEST_COMMENT = 128
"""Bytes that nft takes."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_FAMILIES = ("inet", "bridge")
_PORT = r'"[^"\\*\s{};,#\x00-\x1f\x7f]{1,15}"'
"""An interface's name. A star at its end would mean every name that begins so."""
_NUMBER = r"0x[0-9a-f]+|[0-9][0-9./-]*|[0-9A-Fa-f]*:[0-9A-Fa-f:./-]*"
"""A number, an address, a prefix, a range. A word would be looked up as a host's name."""
_ATOM = rf"(?:{_PORT}|{_NUMBER})"
_VERDICT = r"(?:(?:goto|jump) [A-Za-z_][\w./-]*|accept|drop|return|continue)"
_ELEMENT = re.compile(rf"{_ATOM}(?: \. {_ATOM})*(?: timeout [0-9]+s)?(?: : {_VERDICT})?")
_HOOK = re.compile(r"type [a-z]+ hook [a-z]+ priority -?[0-9]+; policy (?:accept|drop);")
_KEY = re.compile(r"(?:typeof )?[A-Za-z0-9_@ .,]+")
_FLAG = re.compile(r"[a-z]+")


class Unspeakable(StockadeError):  # noqa: N818 - reads as what happened
    """A name, element or rule that cannot be written in nft's language without meaning something else."""

    def __init__(self, what: str, given: str) -> None:
        super().__init__(
            f"{what} cannot be spelled for nft: {given[:80]!r}",
            kept="nothing was sent to the kernel; what is in force stays in force",
            remedy="rename what carries this name",
        )


def text(step: Step) -> str:
    """Return one transaction. Same step, same bytes. Raises ``Unspeakable``."""
    return "".join(f"{line}\n" for operation in step for line in _lines(operation))


def _lines(operation: Operation) -> Iterator[str]:
    match operation:
        case FillChain():
            yield from _rules(operation)
        case AddElements(name=name, elements=elements):
            yield f"add element {_at(operation, name)} {{ {_joined(elements)} }}"
        case DeleteElements(name=name, elements=elements):
            yield f"delete element {_at(operation, name)} {{ {_joined(map(key_of, elements))} }}"
        case AddSet(name=name, declared=declared):
            yield f"add {_word(declared.data)} {_at(operation, name)} {{ {_declared(declared)}\n}}"
        case AddChain(name=name, hook=""):
            yield f"add chain {_at(operation, name)}"
        case AddChain(name=name, hook=hook):
            yield f"add chain {_at(operation, name)} {{ {_checked(_HOOK, 'a hook', hook)}\n}}"
        case _:
            yield _plain(operation)


def _plain(operation: Operation) -> str:
    match operation:
        case AddTable(family=family):
            return f"add table {_family(family)} {TABLE}"
        case DeleteTable(family=family):
            return f"delete table {_family(family)} {TABLE}"
        case FlushSet(name=name, is_map=is_map):
            return f"flush {'map' if is_map else 'set'} {_at(operation, name)}"
        case DeleteSet(name=name, is_map=is_map):
            return f"delete {'map' if is_map else 'set'} {_at(operation, name)}"
        case AddCounter(name=name):
            return f"add counter {_at(operation, name)}"
        case DeleteCounter(name=name):
            return f"delete counter {_at(operation, name)}"
        case FlushChain(name=name):
            return f"flush chain {_at(operation, name)}"
        case DeleteChain(name=name):
            return f"delete chain {_at(operation, name)}"
    raise TypeError(operation)


def _rules(operation: FillChain) -> Iterator[str]:
    at = _at(operation, operation.name)
    for rule in operation.rules:
        if (
            "\n" in rule
            or ";" in rule
            or rule.count('"') % 2
            or len(rule.rpartition(' comment "')[2]) > LONGEST_COMMENT
        ):
            raise Unspeakable("a rule", rule)
        yield f"add rule {at} {rule}"


def _declared(declared: ElementSet) -> str:
    key = _checked(_KEY, "a set's key", declared.key)
    parts = [key if key.startswith("typeof ") else f"type {key}"]
    if declared.data:
        parts[0] += f" : {_checked(_KEY, 'what a map holds', declared.data)}"
    if declared.flags:
        parts.append("flags " + ",".join(_checked(_FLAG, "a set's flag", flag) for flag in declared.flags))
    if declared.timeout:
        parts.append(f"timeout {declared.timeout}s")
    if declared.comment:
        parts.append(f'comment "{_comment(declared.comment)}"')
    return "; ".join(parts)


def _comment(comment: str) -> str:
    if '"' in comment or "\n" in comment or len(comment.encode()) > LONGEST_COMMENT:
        raise Unspeakable("a set's comment", comment)
    return comment


def _joined(elements: Iterable[str]) -> str:
    return ", ".join(_checked(_ELEMENT, "an element", element) for element in elements)


def _word(data: str) -> str:
    return "map" if data else "set"


def _at(operation: Operation, name: str) -> str:
    return f"{_family(operation.family)} {TABLE} {_checked(_NAME, 'a name', name)}"


def _family(family: str) -> str:
    if family not in _FAMILIES:
        raise Unspeakable("a family", family)
    return family


def _checked(pattern: re.Pattern[str], what: str, given: str) -> str:
    if pattern.fullmatch(given) is None:
        raise Unspeakable(what, given)
    return given
