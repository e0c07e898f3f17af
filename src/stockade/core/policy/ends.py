"""Selectors, rule ends and ports within documents: texts with a grammar of their own, with places inside them.

References to services and network sets are collected, not resolved: ``check`` does that once all files are read.
"""

import re

from stockade.core import select
from stockade.core.model.net import PORTED, Ports
from stockade.core.model.policy import End, Networks, Selected, ServiceRef
from stockade.core.model.selector import And, Equal, Not, Or, Selector
from stockade.core.policy import words
from stockade.core.policy.forms import Form, items, scalar, text
from stockade.core.policy.nodes import Node, Scalar
from stockade.core.policy.report import Report, quoted

ON_LIMIT = 256
"""Services in one rule."""

NETWORKS_LIMIT = 64
"""Network sets in one rule's end."""

_CALL = re.compile(r"\s*(any|networks)\s*\(")
_SELECTOR_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 16_384}
_PORTS_PATTERN = (
    r"^(any|icmp|icmpv6|tcp|udp|sctp|(tcp|udp|sctp)/[0-9]{1,5}(-[0-9]{1,5})?|icmp(v6)?/[a-z0-9-]+(/[0-9]{1,3})?)$"
)
_NAME_SCHEMA = {"type": "string", "pattern": f"^{words.NAME.pattern}$", "maxLength": words.NAME_LIMIT}


def _end(node: Node, report: Report) -> End | None:
    found = text(node, report, "an end: a selector, any(…) or networks(…)")
    if found is None:
        return None
    call = _CALL.match(found.value)
    if call is None:
        return _wrapped(_parsed(found, report))
    inner, offset = found.value[call.end() :].rstrip(), call.end()
    if not inner.endswith(")"):
        report.add(
            found.part(call.start(1), len(found.value)), f"{call[1]}(…) is a whole end", "a closing ) at its end"
        )
        return None
    if call[1] == "any":
        return _wrapped(_parsed(found, report, inner[:-1], offset), anywhere=True)
    return _networks(found, report, inner[:-1], offset)


def _networks(found: Scalar, report: Report, inner: str, offset: int) -> End | None:
    before = report.count
    names = []
    parts = inner.split(",")
    for part in parts:
        name = part.strip()
        spot = found.part(offset + len(part) - len(part.lstrip()), max(1, len(name)))
        offset += len(part) + 1
        if not words.is_name(name):
            report.add(spot, f"{quoted(name)} is not the name of a network set", "names, with commas between them")
        else:
            report.refer("NetworkSet", name, spot)
            names.append(name)
    if len(parts) > NETWORKS_LIMIT:
        report.add(found.spot, f"{len(parts)} network sets in one end", f"at most {NETWORKS_LIMIT}")
    return Networks(tuple(sorted(set(names)))) if report.count == before else None


def _service(node: Node, report: Report) -> ServiceRef | None:
    found = scalar(node, report, "ports or a service")
    if found is None:
        return None
    if words.is_name(found.value) and found.value not in words.PROTOCOLS and not found.value.isdecimal():
        report.refer("Service", found.value, found.spot)
        return found.value
    return _ports_of(found, report)


def _point(node: Node, report: Report) -> ServiceRef | None:
    found = _service(node, report)
    if not isinstance(found, Ports):
        return found
    one_type = found.protocol not in PORTED and found.first // 256 == found.last // 256
    if found.first == found.last or one_type:
        return found
    report.add(node.spot, "a test probes one port", "one port, one ICMP type or a service")
    return None


def _ports_of(found: Scalar, report: Report) -> Ports | None:
    """Read a scalar as ports, or write down why it is none."""
    try:
        return words.ports_of(found.value)
    except words.WordError as error:
        report.add(found.spot, error.message, error.expected, error.nearest)
        return None


def _ports(node: Node, report: Report) -> Ports | None:
    found = scalar(node, report, "ports")
    return None if found is None else _ports_of(found, report)


def trusting(selector: Selector) -> bool:
    """Tell whether ``trusted(…)`` stands anywhere in a selector."""
    match selector:
        case Equal(trusted=trusted):
            return trusted
        case Not(of):
            return trusting(of)
        case And(of) | Or(of):
            return any(map(trusting, of))
    return False


def _selector(node: Node, report: Report) -> Selector | None:
    found = text(node, report, "a selector")
    return None if found is None else _parsed(found, report)


def _untrusting(node: Node, report: Report) -> Selector | None:
    selector = _selector(node, report)
    if selector is not None and trusting(selector):
        report.add(node.spot, "trusted(…) has no meaning for a mode", "a selector without trusted(…)")
        return None
    return selector


def _parsed(found: Scalar, report: Report, part: str | None = None, offset: int = 0) -> Selector | None:
    try:
        return select.parse(found.value if part is None else part)
    except select.SelectorError as error:
        spot = found.part(offset + error.offset, error.length)
        report.add(spot, error.message, error.expected, error.nearest)
        return None


def _wrapped(selector: Selector | None, *, anywhere: bool = False) -> End | None:
    return None if selector is None else Selected(selector, anywhere)


SELECTOR: Form[Selector] = Form(_selector, _SELECTOR_SCHEMA)
MODE_SELECTOR: Form[Selector] = Form(_untrusting, _SELECTOR_SCHEMA)
END: Form[End] = Form(_end, _SELECTOR_SCHEMA)
SERVICE: Form[ServiceRef] = Form(_service, {"type": "string", "anyOf": [{"pattern": _PORTS_PATTERN}, _NAME_SCHEMA]})
POINT: Form[ServiceRef] = Form(_point, SERVICE.schema)
PORTS: Form[Ports] = Form(_ports, {"type": "string", "pattern": _PORTS_PATTERN})
ON: Form[tuple[ServiceRef, ...]] = items("services", SERVICE, ON_LIMIT)
