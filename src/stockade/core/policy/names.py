"""Forms of names and labels."""

from typing import NamedTuple

from stockade.core import select
from stockade.core.model.labels import NAME as NAME_DIMENSION
from stockade.core.policy import words
from stockade.core.policy.forms import Field, Form, Given, pairs, record, text
from stockade.core.policy.nodes import Node
from stockade.core.policy.report import Report, Spot, quoted

LABEL_LIMIT = 64
"""Labels in one mapping."""


def _name(node: Node, report: Report) -> str | None:
    found = text(node, report, "a name")
    if found is None:
        return None
    if not words.is_name(found.value):
        report.add(
            found.spot, f"{quoted(found.value)} cannot be a name", words.NAME_WORDS, words.name_like(found.value)
        )
        return None
    return found.value


def _label_key(node: Node, report: Report) -> str | None:
    found = text(node, report, "a label's key")
    if found is None:
        return None
    if not select.is_key(found.value):
        report.add(
            found.spot, f"{quoted(found.value)} cannot be a label's key", "letters, digits and _ . / -; no keyword"
        )
        return None
    return found.value


def _label_value(node: Node, report: Report) -> str | None:
    found = text(node, report, "a label's value")
    if found is None:
        return None
    if not select.is_value(found.value):
        limit = f"1 to {select.VALUE_LIMIT} characters"
        report.add(found.spot, f"{quoted(found.value)} cannot be a label's value", limit)
        return None
    return found.value


NAMED: Form[str] = Form(_name, {"type": "string", "pattern": f"^{words.NAME.pattern}$", "maxLength": words.NAME_LIMIT})
LABEL_KEY: Form[str] = Form(
    _label_key, {"type": "string", "pattern": f"^{select.KEY_PATTERN}$", "maxLength": select.KEY_LIMIT}
)
LABEL_VALUE: Form[str] = Form(_label_value, {"type": "string", "minLength": 1, "maxLength": select.VALUE_LIMIT})
LABELS = pairs("labels", LABEL_KEY, LABEL_VALUE, LABEL_LIMIT)


def _settable_key(node: Node, report: Report) -> str | None:
    key = _label_key(node, report)
    if key == NAME_DIMENSION:
        report.add(node.spot, '"name" is the workload\'s own name and cannot be set', "another key")
        return None
    return key


def _shown_value(node: Node, report: Report) -> str | None:
    value = LABEL_VALUE.read(node, report)
    if value is not None and not select.shows(value):
        report.add(node.spot, f"{quoted(value)} holds a character that does not show", "letters, digits, signs")
        return None
    return value


_SETTABLE: Form[str] = Form(_settable_key, {"not": {"const": NAME_DIMENSION}, **LABEL_KEY.schema})
SHOWN_VALUE: Form[str] = Form(_shown_value, LABEL_VALUE.schema)
LABELS_SET = pairs("labels", _SETTABLE, SHOWN_VALUE, LABEL_LIMIT)
"""The labels that a document sets."""

NAME = Field("name", NAMED, "what it is called: unique within its kind", required=True)


class Called(NamedTuple):
    """A document's name and where it stands."""

    name: str
    spot: Spot


def _called(given: Given) -> Called | None:
    name = given.read(NAME)
    return None if name is None else Called(name, given.value(NAME))


METADATA: Form[Called] = record("metadata", (NAME,), _called)
