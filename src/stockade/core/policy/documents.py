"""A policy set → YAML documents that read back to the same policy, in the shape of ``docs/policy.md``.

Promises that every text is written so that any reader of YAML takes it for the same text.
"""

import re
from collections.abc import Iterator

from stockade.core import select
from stockade.core.model.inventory import WorkloadKind
from stockade.core.model.labels import LabelSource
from stockade.core.model.policy import (
    End,
    EnforcementMode,
    Invariant,
    LabelRule,
    Networks,
    NetworkSet,
    Only,
    Policy,
    PolicySet,
    PolicyTest,
    Quarantine,
    Rule,
    Service,
    ServiceRef,
    TestEnd,
    UnmanagedWorkload,
)
from stockade.core.model.selector import ALL
from stockade.core.policy.forms import yaml_reads
from stockade.core.policy.kinds import API_VERSION
from stockade.core.policy.sets import Document, documents
from stockade.core.policy.words import ports_text

Value = str | int | list["Value"] | dict[str, "Value"]


class _Own(dict[str, Value]):
    """A mapping whose keys are the user's own: unlike ours (``on``), they are quoted where YAML needs it."""


_WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z0-9/](?:[A-Za-z0-9 _./=()*@+-]|:(?! ))*")
_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def to_documents(policy: PolicySet) -> str:
    """Return a policy set as YAML, kinds in a fixed order and names sorted; an empty set is an empty text."""
    return "---\n".join("".join(f"{line}\n" for line in _document(kind, each)) for kind, each in documents(policy))


def _document(kind: str, document: Document) -> Iterator[str]:
    yield f"apiVersion: {API_VERSION}"
    yield f"kind: {kind}"
    yield f"metadata: {_flow({'name': document.name})}"
    yield from _lines("spec", _spec(document), 0)


# Values of the model → values of a document


def _spec(document: Document) -> dict[str, Value]:
    match document:
        case Policy():
            return _policy(document)
        case Service(ports=ports, process=process, unit=unit):
            bound: dict[str, Value] = {"process": process} if process is not None else {}
            return {
                "ports": [ports_text(each) for each in ports],
                **bound,
                **({"unit": unit} if unit is not None else {}),
            }
        case NetworkSet():
            return _network_set(document)
        case LabelRule():
            return _label_rule(document)
        case EnforcementMode():
            return _mode(document)
        case Invariant(holds=holds):
            key = "only" if isinstance(holds, Only) else "never"
            reaches: dict[str, Value] = {key: select.text(holds.source), "reaches": select.text(holds.destination)}
            return {**reaches, **_on(holds.on)}
        case Quarantine():
            return _quarantine(document)
        case UnmanagedWorkload():
            return _workload(document)


def _policy(policy: Policy) -> dict[str, Value]:
    spec: dict[str, Value] = {} if policy.scope == ALL else {"scope": select.text(policy.scope)}
    spec["rules"] = [_rule(rule) for rule in policy.rules]
    if policy.tests:
        spec["tests"] = [_test(test) for test in policy.tests]
    return spec


def _rule(rule: Rule) -> dict[str, Value]:
    body: dict[str, Value] = {"from": _end(rule.source), "to": _end(rule.destination), **_on(rule.on)}
    written: dict[str, Value] = {"name": rule.id.partition("/")[2], rule.action.value: body}
    return {**written, "established": "keep"} if rule.keep else written


def _end(end: End) -> str:
    if isinstance(end, Networks):
        return f"networks({', '.join(end.names)})"
    return f"any({select.text(end.selector)})" if end.anywhere else select.text(end.selector)


def _on(on: tuple[ServiceRef, ...]) -> dict[str, Value]:
    return {"on": [_service(each) for each in on]} if on else {}


def _service(service: ServiceRef) -> str:
    return service if isinstance(service, str) else ports_text(service)


def _test(test: PolicyTest) -> dict[str, Value]:
    ends: dict[str, Value] = {"from": _test_end(test.source), "to": _test_end(test.destination)}
    return {**ends, "on": _service(test.on), "expect": test.expect.value}


def _test_end(end: TestEnd) -> Value:
    return end.address if end.address is not None else _Own(end.labels)


def _network_set(found: NetworkSet) -> dict[str, Value]:
    spec: dict[str, Value] = {"cidrs": list(found.cidrs)} if found.cidrs or not found.fqdns else {}
    if found.excepted:
        spec["except"] = list(found.excepted)
    return {**spec, "fqdns": list(found.fqdns)} if found.fqdns else spec


def _label_rule(rule: LabelRule) -> dict[str, Value]:
    spec: dict[str, Value] = {} if rule.source is LabelSource.RULE else {"source": rule.source.value}
    if rule.conditions:
        spec["where"] = _Own(rule.conditions)
    return {**spec, "set": _Own(rule.set)}


def _mode(mode: EnforcementMode) -> dict[str, Value]:
    spec: dict[str, Value] = {"select": select.text(mode.select), "mode": mode.mode.value}
    if mode.priority:
        spec["priority"] = mode.priority
    return {**spec, "births": mode.births.value} if mode.births is not None else spec


def _quarantine(found: Quarantine) -> dict[str, Value]:
    spec: dict[str, Value] = {"select": select.text(found.select)}
    spared: list[Value] = []
    for each in found.excepted:
        end: dict[str, Value] = {"from": _end(each.source)} if each.source is not None else {}
        if each.destination is not None:
            end["to"] = _end(each.destination)
        spared.append({**end, **_on(each.on)})
    if spared:
        spec["except"] = spared
    if found.reason:
        spec["reason"] = found.reason
    return spec if found.until is None else {**spec, "until": found.until.isoformat().replace("+00:00", "Z")}


def _workload(found: UnmanagedWorkload) -> dict[str, Value]:
    spec: dict[str, Value] = {"labels": _Own(found.labels)} if found.labels else {}
    spec["addresses"] = list(found.addresses)
    if found.host:
        spec["host"] = found.host
    if found.kind is not WorkloadKind.UNMANAGED:
        spec["kind"] = found.kind.value
    return {**spec, "description": found.description} if found.description else spec


# Values of a document → YAML


def _lines(key: str, value: Value, indent: int) -> Iterator[str]:
    """Write ``key: value`` on one line where that is readable, else over several."""
    head = " " * indent + key + ":"
    flow = _flow(value)
    if not isinstance(value, list | dict) or not value or (_leaf(value) and indent + len(head) + len(flow) < _WIDTH):
        yield f"{head} {flow}"
    elif isinstance(value, dict):
        yield head
        for inner, content in value.items():
            yield from _lines(_text(inner) if isinstance(value, _Own) else inner, content, indent + 2)
    else:
        yield head
        for item in value:
            yield from _item(item, indent + 2)


def _item(item: Value, indent: int) -> Iterator[str]:
    if not isinstance(item, dict) or _leaf(item):
        yield " " * indent + "- " + _flow(item)
        return
    nested = [line for key, content in item.items() for line in _lines(key, content, indent + 2)]
    yield " " * indent + "- " + nested[0].lstrip()
    yield from nested[1:]


def _leaf(value: Value) -> bool:
    """Tell whether a value is plain enough for one line: no mapping in it but as one of a test's ends."""
    match value:
        case dict():
            return (
                "rules" not in value
                and all(map(_shallow, value.values()))
                and not set(value) & {"allow", "deny", "overrideDeny"}
            )
        case list():
            return not any(isinstance(each, dict) for each in value)
    return True


def _shallow(value: Value) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not any(isinstance(each, dict | list) for each in inner)


def _flow(value: Value) -> str:
    match value:
        case dict():
            keys = [_text(key) if isinstance(value, _Own) else key for key in value]
            contents = map(_flow, value.values())
            return "{" + ", ".join(map(": ".join, zip(keys, contents, strict=True))) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case int():
            return str(value)
    return _text(value)


def _text(value: str) -> str:
    """Write a text plain where every reader of YAML takes it for that text, else in double quotes."""
    if _PLAIN.fullmatch(value) and not value.endswith((" ", ":")) and not yaml_reads(value):
        return value
    return '"' + "".join(map(_character, value)) + '"'


def _character(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) <= 0xFFFF else f"\\U{ord(character):08x}"
