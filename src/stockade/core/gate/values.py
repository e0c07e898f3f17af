"""The words of this room, and what its modules share."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stockade.errors import StockadeError

Files = Mapping[str, str | None]
"""Texts by path; None where there is no such file."""

_INDENT = re.compile(r'\n([ \t]+)"')


class CannotEdit(StockadeError):  # noqa: N818 - reads as what happened
    """A configuration into which the gate cannot be put without guessing."""


class Call(msgspec.Struct, frozen=True):
    """How runtimes call the gate: the program, the agent's socket for it, the file that outlives a boot."""

    program: str
    socket: str
    births: str

    @property
    def options(self) -> tuple[str, ...]:
        """The gate's options."""
        return ("--socket", self.socket, "--births", self.births)

    def hook(self, seconds: int = 2) -> dict[str, Any]:
        """Return the hook as an OCI configuration has it (runtime specification 1.1, POSIX-platform hooks)."""
        return {"path": self.program, "args": ["stockade-gate", "oci", *self.options], "timeout": seconds}


class Target(msgspec.Struct, frozen=True):
    """One runtime's configuration.

    ``patterns`` name its files (globs where several may be there). ``put`` and ``take`` are given all that are there
    and return those that change, by path. ``needs`` names what else they want to read: files, or facts by a name of
    their own. ``heed`` is the command that makes the runtime heed the gate, ``heed_end`` the one that makes it heed
    the gate's end; empty where it does so by itself.
    """

    name: str
    title: str
    patterns: tuple[str, ...]
    put: Callable[[Files, Call], dict[str, str]]
    take: Callable[[Files], dict[str, str | None]]
    heed: tuple[str, ...] = ()
    heed_end: tuple[str, ...] = ()
    needs: Callable[[Files], tuple[str, ...]] = lambda _: ()
    lingers: Callable[[Files], bool] = lambda _: False
    """Whether something of the gate must stay in the configuration for now, although it is taken out."""
    program: str = ""
    """Where a copy of the gate must be besides, under the name by which this runtime calls it."""


def read_json(path: str, text: str | None) -> dict[str, Any]:
    """Return the object that a file holds, an empty one where there is no file. ``CannotEdit`` where it is none."""
    try:
        found = json.loads(text) if text and text.strip() else {}
    except ValueError as problem:
        raise CannotEdit(f"{path} is not JSON: {problem}", kept="nothing was changed", remedy="mend it first") from None
    if not isinstance(found, dict):
        raise CannotEdit(f"{path} holds no JSON object", kept="nothing was changed", remedy="mend it first")
    return found


def write_json(found: Mapping[str, Any], like: str | None = None) -> str:
    """Return an object as text, indented as the text it comes from."""
    indent = _INDENT.search(like or "")
    return json.dumps(found, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"
