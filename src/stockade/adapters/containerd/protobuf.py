"""Protocol Buffers' wire format, as far as a few small messages need it: fields by number, and nothing by name.

https://protobuf.dev/programming-guides/encoding/. Reads what it knows and steps over what it does not, so that a newer
peer's fields do no harm. Groups, which no current message has, are refused.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT = 10

Value = str | bytes | int | Mapping[str, str] | Sequence[bytes | str]
"""What a field may be given: a text, bytes or an encoded message, a number, a map, or a list of texts or messages."""


class Malformed(ValueError):  # noqa: N818 - reads as what happened
    """These bytes are no message."""


class Message:
    """A message's fields. What is absent reads as empty, as the format has it; of repeated scalars the last counts."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in fields(data):
            self._fields.setdefault(number, []).append(value)

    def number(self, field: int) -> int:
        """Return an integer, an enum's value or a flag."""
        found = self._fields.get(field, [0])[-1]
        if not isinstance(found, int):
            raise Malformed(f"field {field} is not a number")
        return found

    def data(self, field: int) -> bytes:
        """Return bytes."""
        return next(reversed(self.all_data(field)), b"")

    def all_data(self, field: int) -> list[bytes]:
        """Return each value of a repeated field."""
        found = self._fields.get(field, [])
        if not all(isinstance(each, bytes) for each in found):
            raise Malformed(f"field {field} is not text, bytes or a message")
        return [each for each in found if isinstance(each, bytes)]

    def text(self, field: int) -> str:
        """Return a text; bytes that are no UTF-8 are shown as such."""
        return self.data(field).decode(errors="replace")

    def message(self, field: int) -> "Message":
        """Return the message in a field; an empty one where there is none."""
        return Message(self.data(field))

    def messages(self, field: int) -> list["Message"]:
        """Return each message of a repeated field."""
        return [Message(each) for each in self.all_data(field)]

    def has(self, field: int) -> bool:
        """Tell whether a field was sent."""
        return field in self._fields

    def texts(self, field: int) -> dict[str, str]:
        """Return a map from text to text."""
        return {each.text(1): each.text(2) for each in self.messages(field)}


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number, value) of each field in order. Raises ``Malformed``."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = _varint(data, at)
        elif kind in _WIDTHS:
            length = _WIDTHS[kind]
        else:
            raise Malformed(f"field {number} has the unknown wire type {kind}")
        if at + length > len(data):
            raise Malformed(f"field {number} ends after its message")
        piece = data[at : at + length]
        at += length
        yield number, piece if kind == BYTES else int.from_bytes(piece, "little")


def encode(values: Mapping[int, Value]) -> bytes:
    """Return a message of fields by number; what is empty or zero is left out, a list becomes a repeated field."""
    return b"".join(_encoded(number, value) for number, value in values.items())


def _encoded(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _key(number, VARINT) + _as_varint(int(value)) if value else b""
    if isinstance(value, Mapping):
        return _repeated(number, (encode({1: key, 2: each}) for key, each in value.items()))
    if isinstance(value, str | bytes):
        return _repeated(number, [_raw(value)]) if value else b""
    return _repeated(number, map(_raw, value))


def _raw(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _repeated(number: int, values: Iterable[bytes]) -> bytes:
    return b"".join(_key(number, BYTES) + _as_varint(len(each)) + each for each in values)


def _key(number: int, kind: int) -> bytes:
    return _as_varint(number << 3 | kind)


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if at >= len(data):
            raise Malformed("a number ends after its message")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, at
    raise Malformed("a number is longer than any may be")
