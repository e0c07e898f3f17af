"""What may stand where somebody writes in a policy file: keys by the forms that read them, and words that exist.

Pure: from the text, the place in it, and a snapshot. Never raises, whatever the text is.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from stockade.core import select
from stockade.core.model.labels import NAME
from stockade.core.model.selector import Equal
from stockade.core.model.snapshot import Snapshot
from stockade.core.policy.place import ITEM, Place, place
from stockade.core.policy.schema import schema
from stockade.core.policy.words import PROTOCOLS, ports_text

MOST = 120
"""Candidates told at once."""
WORD = re.compile(r"[A-Za-z0-9_./:@+-]*$")
SELECTORS = frozenset({"from", "to", "select", "scope", "only", "never", "reaches"})
ENDS = frozenset({("rules", "from"), ("rules", "to"), ("except", "from"), ("except", "to")})
"""Where an end may be a network set, or lie outside the scope."""
HAZARDS = frozenset(",[]{}#:")
"""What within brackets is no longer a plain text to YAML."""


class Candidate(msgspec.Struct, frozen=True):
    """What may stand there, a word about it, and what is written for it."""

    text: str
    about: str = ""
    insert: str = ""


class Completion(msgspec.Struct, frozen=True):
    """Candidates for what stands from ``start`` up to where somebody writes (characters from the text's beginning)."""

    start: int
    candidates: tuple[Candidate, ...] = ()


def completion(text: str, line: int, column: int, snapshot: Snapshot) -> Completion:
    """Return what may stand at a line and column, both from 1; nothing where the text has no such place."""
    offset = _offset(text, line, column)
    found = place(text, offset) if offset is not None else None
    if offset is None or found is None:
        return Completion(offset or 0)
    word = _word(found.said)
    candidates = (
        _key(found, snapshot) if found.key else _value(found, found.said[: len(found.said) - len(word)], snapshot)
    )
    start = offset - len(word)
    fitting = _fitting(candidates, word)
    if text[start - 1 : start] == ":" and not found.key:  # YAML wants a space there
        fitting = tuple(msgspec.structs.replace(each, insert=f" {each.insert or each.text}") for each in fitting)
    return Completion(start, fitting)


def _offset(text: str, line: int, column: int) -> int | None:
    lines = text.split("\n")
    if not (1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1):
        return None
    return sum(len(each) + 1 for each in lines[: line - 1]) + column - 1


def _word(said: str) -> str:
    found = WORD.search(said)
    return found[0] if found else ""


def _fitting(candidates: Iterable[Candidate], word: str) -> tuple[Candidate, ...]:
    """Return those that hold the word, those that begin with it first, each once, in the order they were told in."""
    wanted, once = word.lower(), {each.text: each for each in reversed(list(candidates))}
    found = [each for each in reversed(list(once.values())) if wanted in each.text.lower() and each.text != word]
    return tuple(sorted(found, key=lambda each: not each.text.lower().startswith(wanted))[:MOST])


# Keys


def _key(at: Place, snapshot: Snapshot) -> Iterator[Candidate]:
    form = _form(at.kind, at.path)
    if form is None:
        return
    if "properties" in form:
        for name, field in form["properties"].items():
            if name not in at.given:
                yield Candidate(name, _about(field), f"{name}: ")
    elif "propertyNames" in form:
        yield from _label_keys(at, snapshot)
    elif at.path[-1:] == (ITEM,) or form.get("type") == "string":
        yield from _value(at, at.said[: len(at.said) - len(_word(at.said))], snapshot)


def _label_keys(at: Place, snapshot: Snapshot) -> Iterator[Candidate]:
    if at.path[-1] == "where":
        for name in ("runtime", "kind", "image", "namespace", "host", "name", "cidr"):
            if name not in at.given:
                yield Candidate(name, "", f"{name}: ")
        return
    for key, values in _labels(snapshot).items():
        if key not in at.given and key != NAME:
            yield Candidate(key, _some(values), f"{key}: ")


@cache
def _schema() -> Mapping[str, Any]:
    return schema()


def _form(kind: str, path: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the schema of what a path leads to; None where it leads nowhere."""
    form: Mapping[str, Any] = _schema()
    for step in path:
        if step == "spec" and form is _schema():
            form = _schema()["$defs"].get(kind, {})
        elif step == ITEM:
            form = form.get("items", {})
        else:
            form = form.get("properties", {}).get(step, {})
        form = next((each for each in form.get("anyOf", ()) if each.get("type") == "object"), form)
        if not form:
            return None
    return form


def _about(field: Mapping[str, Any]) -> str:
    return str(field.get("description", ""))


# Values


def _value(at: Place, before: str, snapshot: Snapshot) -> Iterator[Candidate]:
    form = _form(at.kind, at.path) or {}
    name = next((each for each in reversed(at.path) if each != ITEM), "")
    if "enum" in form or "const" in form:
        yield from (Candidate(str(each)) for each in form.get("enum", (form.get("const"),)))
    elif len(at.path) > 1 and _is_labels(at.kind, at.path[:-1]):
        yield from _label_values(name, snapshot)
    elif name in SELECTORS and form.get("type") == "string" and "spec" in at.path:
        yield from _plain(at, _selector(at, before.lstrip("\"'"), snapshot))
    elif name in ("on", "ports"):
        yield from _services(snapshot, named=name == "on")
    elif name == "host":
        yield from (Candidate(each, "a host") for each in sorted(snapshot.hosts))


def _is_labels(kind: str, path: Sequence[str]) -> bool:
    form = _form(kind, path) or {}
    return "propertyNames" in form and path[-1] != "where"


def _plain(at: Place, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    return (each for each in candidates if not at.flow or not HAZARDS & set(each.insert or each.text))


def _label_values(key: str, snapshot: Snapshot) -> Iterator[Candidate]:
    values = _labels(snapshot).get(key, Counter[str]())
    return (Candidate(each, _workloads(count)) for each, count in sorted(values.items()) if select.shows(each))


def _services(snapshot: Snapshot, *, named: bool) -> Iterator[Candidate]:
    if named:
        for each in sorted(snapshot.policy.services, key=lambda each: each.name):
            yield Candidate(each.name, ", ".join(map(ports_text, each.ports)))
    for name in PROTOCOLS:
        yield Candidate(name, "a protocol")
    yield from (Candidate(f"{each}/", "and a port, or first-last") for each in ("tcp", "udp", "sctp"))


def _selector(at: Place, before: str, snapshot: Snapshot) -> Iterator[Candidate]:
    """Return what may follow in a selector, by its last words."""
    steps = tuple(each for each in at.path if each != ITEM)
    end = any(above in steps and steps[-1] == name for above, name in ENDS)
    if end and (inside := re.fullmatch(r"\s*networks\s*\(([^()]*)", before)):
        named = {each.strip() for each in inside[1].split(",")}
        sets = sorted(each.name for each in snapshot.policy.network_sets if each.name not in named)
        yield from (Candidate(each, "a network set") for each in sets)
        return
    said = re.findall(r"\"[^\"]*\"|'[^']*'|!=|[=(),]|[^\s=(),!\"']+", before)
    last = said[-1] if said else ""
    if key := _compared(said):
        yield from _values(key, snapshot)
    elif last in ("", "and", "or", "not", "(", "has"):
        yield from _label_names(snapshot)
        if last != "has":
            yield from (Candidate(each, about, insert) for each, about, insert in OPENING)
        if end and not said:
            yield Candidate("any(…)", "whoever is selected, wherever they lie", "any(")
            yield Candidate("networks(…)", "addresses in these network sets", "networks(")
    elif _is_key_before(said):
        yield from (Candidate(each, "", f"{each} ") for each in ("=", "!=", "in", "not"))
    elif last != ",":
        yield from (Candidate(each, "", f"{each} ") for each in ("and", "or"))


OPENING = (
    ("all", "every workload that has labels", "all"),
    ("not", "whoever does not match", "not "),
    ("has", "whoever has a label of that key", "has "),
)


def _compared(said: Sequence[str]) -> str:
    """Return the key whose value comes next; empty where none does."""
    if len(said) > 1 and said[-1] in ("=", "!="):
        return said[-2]
    opened = max((at for at, each in enumerate(said) if each == "("), default=-1)
    if opened > 1 and said[opened - 1] == "in" and ")" not in said[opened:] and said[-1] in ("(", ","):
        return said[opened - 3] if said[opened - 2] == "not" and opened > 2 else said[opened - 2]
    return ""


def _is_key_before(said: Sequence[str]) -> bool:
    before = said[-2] if len(said) > 1 else ""
    return before in ("", "and", "or", "not", "(") and select.is_key(said[-1])


def _label_names(snapshot: Snapshot) -> Iterator[Candidate]:
    return (Candidate(key, _some(values), f"{key} ") for key, values in _labels(snapshot).items())


def _values(key: str, snapshot: Snapshot) -> Iterator[Candidate]:
    for value, count in sorted(_labels(snapshot).get(key, Counter[str]()).items()):
        if select.is_value(value) and select.shows(value):
            written = select.text(Equal(key, value)).removeprefix(f"{key} = ")
            yield Candidate(written, _workloads(count))


def _labels(snapshot: Snapshot) -> dict[str, Counter[str]]:
    """Return every label in use: by its key, its values and how many workloads have each."""
    found: dict[str, Counter[str]] = {}
    for workload in snapshot.workloads.values():
        for label in workload.labels.items:
            found.setdefault(label.key, Counter())[label.value] += 1
        if workload.labels.items:
            found.setdefault(NAME, Counter())[workload.seen.name] += 1
    return dict(sorted((key, values) for key, values in found.items() if select.is_key(key)))


def _some(values: Counter[str]) -> str:
    shown = [each for each in sorted(values) if select.shows(each)]
    return ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")


def _workloads(count: int) -> str:
    return "1 workload" if count == 1 else f"{count} workloads"
