"""Completion in the draft, for the console's script: what may stand where somebody writes, as JSON."""

import msgspec

from stockade.controller.installation import Installation
from stockade.core.policy.completion import Candidate, completion
from stockade.web.forms import Form

PATH = "/policies/complete"
LONGEST = 400_000
"""Characters of a file that is completed in: a longer one is written elsewhere."""


class Offered(msgspec.Struct, frozen=True):
    """``length``: characters before the cursor that a candidate takes the place of; ASCII alone."""

    length: int
    candidates: tuple[Candidate, ...]


def completed(installation: Installation, form: Form) -> bytes:
    """Return the candidates for a form's text, line and column; none where these make no sense."""
    text, line, column = form.text("text"), _number(form.text("line")), _number(form.text("column"))
    if len(text) > LONGEST:
        return msgspec.json.encode(Offered(0, ()))
    found = completion(text, line, column, installation.controller.snapshot)
    offset = sum(len(each) + 1 for each in text.split("\n")[: line - 1]) + column - 1
    return msgspec.json.encode(Offered(max(offset - found.start, 0), found.candidates))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
