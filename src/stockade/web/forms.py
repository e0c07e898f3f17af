"""A submitted form, read within bounds. Only ``application/x-www-form-urlencoded``: the console has no uploads."""

from urllib.parse import parse_qsl

from starlette.requests import Request

from stockade.controller.refused import Refused, Why

LARGEST = 8 * 1024 * 1024
"""Bytes."""
MOST_FIELDS = 4_000


class Form:
    """Fields in their order; one name may come several times."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def text(self, name: str, default: str = "") -> str:
        """Return the first field of that name."""
        return next((value for key, value in self._fields if key == name), default)

    def every(self, name: str) -> list[str]:
        """Return every field of that name."""
        return [value for key, value in self._fields if key == name]

    def flag(self, name: str) -> bool:
        """Tell whether a box was ticked."""
        return bool(self.text(name))


async def read_form(request: Request) -> Form:
    """Read a request's form. ``Refused`` where it is none or too large."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused(Why.MALFORMED, "this is no form of the console")
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > LARGEST:
            raise Refused(
                Why.TOO_LARGE,
                "this form is larger than 8 MiB",
                remedy="Use `stockade apply` for a policy of that size.",
            )
    try:
        text = content.decode("ascii")
        return Form(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS))
    except ValueError as problem:
        raise Refused(Why.MALFORMED, f"this form cannot be read: {problem}") from problem
