"""Forms: each reads one kind of node into a value and says, as JSON Schema, what it accepts.

What the parser knows and what the schema says are one thing, written once. A form returns None where the node is not
what it should be, and has then written down why; it never raises.
"""

import enum
import re
from collections.abc import Callable
from collections.abc import Mapping as Table
from typing import Any, Generic, TypeVar

import msgspec
import yaml

from stockade.core.policy.nodes import Items, Mapping, Node, Scalar
from stockade.core.policy.report import Report, Spot, listed, nearest, quoted

T = TypeVar("T")
Read_co = TypeVar("Read_co", covariant=True)
E = TypeVar("E", bound=enum.Enum)
Schema = Table[str, object]

TEXT_LIMIT = 16_384
"""Characters in one text of any kind."""

_YAML_READS = {
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:timestamp": "a date",
}
_INTEGER = re.compile(r"-?[0-9]{1,9}")


class Form(msgspec.Struct, Generic[Read_co], frozen=True):
    """How one kind of value is read, and its JSON Schema."""

    read: Callable[[Node, Report], Read_co | None]
    schema: Schema


class Field(msgspec.Struct, Generic[Read_co], frozen=True):
    """A key of a mapping, the form of its value, and a line for whoever edits it."""

    name: str
    form: Form[Read_co]
    about: str
    required: bool = False


class Given:
    """The fields that a mapping gives. ``read`` reads one; None where it is absent or wrong."""

    def __init__(self, node: Mapping, fields: dict[str, tuple[Scalar, Node]], report: Report) -> None:
        self.spot = node.spot
        self.report = report
        self._fields = fields

    def __contains__(self, field: Field[Any]) -> bool:
        return field.name in self._fields

    def read(self, field: Field[T]) -> T | None:
        """Read one field; None where it is absent or wrong."""
        return field.form.read(self._fields[field.name][1], self.report) if field in self else None

    def key(self, field: Field[Any]) -> Spot:
        """Return the place of a field's key, or of the mapping where it is absent."""
        return self._fields[field.name][0].spot if field in self else self.spot

    def value(self, field: Field[Any]) -> Spot:
        """Return the place of a field's value, or of the mapping where it is absent."""
        return self._fields[field.name][1].spot if field in self else self.spot


# Scalars


def scalar(node: Node, report: Report, what: str) -> Scalar | None:
    """Return a scalar, or write down that ``what`` was expected instead of a list or mapping."""
    if not isinstance(node, Scalar):
        report.add(node.spot, f"{_kind(node)} stands where {what} belongs", what)
        return None
    if len(node.value) > TEXT_LIMIT:
        report.add(node.spot, f"a text of {len(node.value):,} characters is too long", f"at most {TEXT_LIMIT:,}")
        return None
    return node


def text(node: Node, report: Report, what: str) -> Scalar | None:
    """Return a scalar that is a text for every reader of YAML, or write down that it must be quoted."""
    found = scalar(node, report, what)
    if found is None:
        return None
    if found.plain and (reads := yaml_reads(found.value)):
        if found.value in ("", "~"):
            report.add(found.spot, f"{what} is missing", what)
        else:
            report.add(found.spot, f"YAML reads this as {reads}; quote it", f"{what}, in quotes", f'"{found.value}"')
        return None
    return found


def yaml_reads(value: str) -> str:
    """Say what YAML makes of an unquoted text if not a text; empty where it stays one."""
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(value[:1], ()):
        if pattern.match(value):
            return _YAML_READS.get(tag, "")
    return ""


def free_text(what: str, limit: int) -> Form[str]:
    """Make the form of a text for people: anything but empty, up to ``limit`` characters."""

    def read(node: Node, report: Report) -> str | None:
        found = text(node, report, what)
        if found is None:
            return None
        if not 0 < len(found.value) <= limit:
            report.add(found.spot, f"{what} has 1 to {limit} characters, not {len(found.value)}", what)
            return None
        return found.value

    return Form(read, {"type": "string", "minLength": 1, "maxLength": limit})


def pattern(what: str, expression: re.Pattern[str], limit: int) -> Form[str]:
    """Make the form of a text that a pattern describes."""

    def read(node: Node, report: Report) -> str | None:
        found = text(node, report, what)
        if found is None:
            return None
        if len(found.value) > limit or not expression.fullmatch(found.value):
            report.add(found.spot, f"{quoted(found.value)} is not {what}", what)
            return None
        return found.value

    return Form(read, {"type": "string", "pattern": f"^(?:{expression.pattern})$", "maxLength": limit})


def choice(what: str, kinds: type[E]) -> Form[E]:
    """Make the form of one word of an enum."""
    words = [str(each.value) for each in kinds]

    def read(node: Node, report: Report) -> E | None:
        found = scalar(node, report, what)
        if found is None:
            return None
        if found.value in words:
            return kinds(found.value)
        report.add(found.spot, f"unknown {what} {quoted(found.value)}", listed(words), nearest(found.value, words))
        return None

    return Form(read, {"enum": words})


def integer(what: str, least: int, most: int) -> Form[int]:
    """Make the form of a whole number."""

    def read(node: Node, report: Report) -> int | None:
        found = scalar(node, report, what)
        if found is None:
            return None
        if found.plain and _INTEGER.fullmatch(found.value) and least <= int(found.value) <= most:
            return int(found.value)
        report.add(found.spot, f"{quoted(found.value)} is not {what}", f"a whole number from {least} to {most}")
        return None

    return Form(read, {"type": "integer", "minimum": least, "maximum": most})


# Lists and mappings


def items(what: str, form: Form[T], limit: int, least: int = 1) -> Form[tuple[T, ...]]:
    """Make the form of a list. What is wrong in it is written down; the other items are read all the same."""

    def read(node: Node, report: Report) -> tuple[T, ...] | None:
        if not isinstance(node, Items):
            close = f"[{node.value}]" if isinstance(node, Scalar) and 0 < len(node.value) < 60 else ""
            report.add(node.spot, f"{_kind(node)} stands where a list of {what} belongs", f"a list of {what}", close)
            return None
        if not least <= len(node.items) <= limit:
            said = "an empty list" if not node.items else f"a list of {len(node.items):,}"
            report.add(node.spot, f"{said} stands where {what} belong", f"{least} to {limit:,} {what}")
            return None
        found = [form.read(each, report) for each in node.items if not report.full]
        return tuple(each for each in found if each is not None)

    return Form(read, {"type": "array", "items": form.schema, "minItems": least, "maxItems": limit})


def record(
    what: str,
    fields: tuple[Field[Any], ...],
    build: Callable[[Given], T | None],
    extra: Schema | None = None,
) -> Form[T]:
    """Make the form of a mapping with known fields; ``extra`` is what its schema says beyond them."""
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": [field.name for field in fields if field.required],
        "properties": {field.name: {"description": field.about, **field.form.schema} for field in fields},
        **(extra or {}),
    }

    def read(node: Node, report: Report) -> T | None:
        given = _given(what, node, fields, report)
        return None if given is None else build(given)

    return Form(read, schema)


def pairs(what: str, key: Form[str], value: Form[str], limit: int, least: int = 0) -> Form[tuple[tuple[str, str], ...]]:
    """Make the form of a mapping whose keys are the user's own, in the order written."""

    def read(node: Node, report: Report) -> tuple[tuple[str, str], ...] | None:
        if not isinstance(node, Mapping):
            report.add(node.spot, f"{_kind(node)} stands where {what} belong", "key: value pairs")
            return None
        if not least <= len(node.pairs) <= limit:
            report.add(node.spot, f"{len(node.pairs)} {what}", f"{least} to {limit} {what}")
            return None
        seen: dict[str, Spot] = {}
        found = []
        for key_node, value_node in node.pairs:
            said, set_to = key.read(key_node, report), value.read(value_node, report)
            if said is None or set_to is None:
                continue
            if said in seen:
                report.add(key_node.spot, f"{quoted(said)} stands here twice", f"once (see line {seen[said].line})")
            seen[said] = key_node.spot
            found.append((said, set_to))
        return tuple(found)

    schema = {"propertyNames": key.schema, "additionalProperties": value.schema}
    return Form(read, {"type": "object", "minProperties": least, "maxProperties": limit, **schema})


def _given(what: str, node: Node, fields: tuple[Field[Any], ...], report: Report) -> Given | None:
    if not isinstance(node, Mapping):
        expected = listed([field.name for field in fields])
        report.add(node.spot, f"{_kind(node)} stands where {what} belongs", f"a mapping with {expected}")
        return None
    if _split(node, report):
        return None
    before = report.count
    found: dict[str, tuple[Scalar, Node]] = {}
    names = tuple(field.name for field in fields)
    for key, value in node.pairs:
        if report.full:
            break
        if not isinstance(key, Scalar):
            report.add(key.spot, f"{_kind(key)} stands where a field's name belongs", listed(names))
        elif key.value not in names:
            missing = tuple(name for name in names if name not in found)
            report.add(
                key.spot, f"unknown field {quoted(key.value)} in {what}", listed(names), nearest(key.value, missing)
            )
        elif key.value in found:
            line = found[key.value][0].spot.line
            report.add(key.spot, f"field {quoted(key.value)} stands here twice", f"once (see line {line})")
        else:
            found[key.value] = (key, value)
    if report.count == before:
        for field in fields:
            if field.required and field.name not in found:
                spot = node.pairs[0][0].spot if node.pairs and not node.flow else Spot(node.spot.line, node.spot.column)
                report.add(spot, f"{what} lacks the field {quoted(field.name)}", field.about)
    return Given(node, found, report)


def _split(node: Mapping, report: Report) -> bool:
    """Find, and write down, a text with a comma in parentheses that the commas of ``{…}`` have cut in two."""
    if not node.flow:
        return False
    for index, (_, value) in enumerate(node.pairs):
        if not (isinstance(value, Scalar) and value.plain and value.value.count("(") > value.value.count(")")):
            continue
        parts = [value.value]
        for key, nothing in node.pairs[index + 1 :]:
            if not (isinstance(key, Scalar) and isinstance(nothing, Scalar) and not nothing.value):
                break
            parts.append(key.value)
            if ")" in key.value:
                report.add(
                    value.spot,
                    "inside {…} a comma ends the value; quote the text that holds it",
                    "the whole text in quotes",
                    f'"{", ".join(parts)}"',
                )
                return True
    return False


def _kind(node: Node) -> str:
    if isinstance(node, Scalar):
        return quoted(node.value) if node.value else "nothing"
    return "a list" if isinstance(node, Items) else "a mapping"
