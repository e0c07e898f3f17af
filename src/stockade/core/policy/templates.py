"""Label rules' facts and templates: which facts there are, and how a template names them.

A template is literal text with ``{fact}`` in it. A key ``{label:PREFIX*SUFFIX}`` (or ``tag:``) stands for one label
for each fact that matches; the label's key is what the star stood for, and a ``*`` in its template is the same.
"""

import ipaddress
import re

from stockade.core.model.inventory import WorkloadKind
from stockade.core.model.labels import NAME
from stockade.core.policy.forms import Form, text
from stockade.core.policy.names import LABEL_KEY
from stockade.core.policy.nodes import Node
from stockade.core.policy.report import Report, listed, nearest, quoted
from stockade.core.select import VALUE_LIMIT

FACTS = ("runtime", "kind", "image", "namespace", "host", "name", "cidr")
"""The facts that have names of their own; ``cidr`` is a condition only."""
KEYED = ("label", "tag")
"""The facts that are many: ``label:KEY``, ``tag:KEY``."""

_FACT_LIMIT = 512
_FACTS_WORDS = listed([*FACTS, "label:KEY", "tag:KEY"])
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_STARRED = re.compile(r"\{(label|tag):[^{}*]*\*[^{}*]*\}")


def starred(template: str) -> bool:
    """Tell whether a template names a fact with a star in it."""
    return any("*" in fact for fact in _PLACEHOLDER.findall(template))


def unmet(key: str, wanted: str) -> tuple[str, str, str] | None:
    """Say why a condition can never hold: (message, expected, nearest); None where it can."""
    if key == "kind" and not set("*?") & set(wanted):
        kinds = [each.value for each in WorkloadKind]
        if wanted not in kinds:
            return f"no workload is of the kind {quoted(wanted)}", listed(kinds), nearest(wanted, kinds)
    if key == "cidr" and not _is_cidr(wanted):
        return f"{quoted(wanted)} is not a CIDR", "an address and prefix length: 10.0.0.0/8", ""
    return None


def _is_cidr(written: str) -> bool:
    try:
        ipaddress.ip_network(written, strict=False)
    except ValueError:
        return False
    return "%" not in written


def _is_fact(written: str) -> bool:
    kind, colon, key = written.partition(":")
    return bool(key) and kind in KEYED if colon else written in FACTS


def _fact(node: Node, report: Report) -> str | None:
    found = text(node, report, "a fact")
    if found is None:
        return None
    if len(found.value) > _FACT_LIMIT or not _is_fact(found.value):
        near = nearest(found.value, [*FACTS, *KEYED])
        report.add(found.spot, f"unknown fact {quoted(found.value)}", _FACTS_WORDS, near + ":KEY" * (near in KEYED))
        return None
    return found.value


def _target(node: Node, report: Report) -> str | None:
    found = text(node, report, "a label's key")
    if found is None:
        return None
    if _STARRED.fullmatch(found.value) and len(found.value) <= _FACT_LIMIT:
        return found.value
    if found.value == NAME:
        report.add(found.spot, '"name" is the workload\'s own name and cannot be set', "another key")
        return None
    return LABEL_KEY.read(node, report)


def _template(node: Node, report: Report) -> str | None:
    found = text(node, report, "a template")
    if found is None:
        return None
    before = report.count
    for placeholder in _PLACEHOLDER.finditer(found.value):
        if not _is_fact(placeholder[1]) or placeholder[1] == "cidr":
            spot = found.part(placeholder.start(), len(placeholder[0]))
            report.add(spot, f"unknown fact {quoted(placeholder[1])}", _FACTS_WORDS, nearest(placeholder[1], FACTS))
    if not 0 < len(found.value) <= _FACT_LIMIT + VALUE_LIMIT:
        report.add(found.spot, f"a template of {len(found.value)} characters", f"1 to {_FACT_LIMIT + VALUE_LIMIT}")
    return found.value if report.count == before else None


FACT: Form[str] = Form(_fact, {"type": "string", "pattern": f"^({'|'.join(FACTS)}|({'|'.join(KEYED)}):.+)$"})
TARGET: Form[str] = Form(
    _target,
    {"type": "string", "not": {"const": NAME}, "anyOf": [{"pattern": f"^{_STARRED.pattern}$"}, LABEL_KEY.schema]},
)
TEMPLATE: Form[str] = Form(_template, {"type": "string", "minLength": 1, "maxLength": _FACT_LIMIT + VALUE_LIMIT})
