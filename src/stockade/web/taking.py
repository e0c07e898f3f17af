"""Suggested documents, put among a draft's files: in place of those of the same kind and name, else as a file. Pure."""

from collections.abc import Iterator, Sequence

from stockade.core import policy
from stockade.core.policy.read import Written
from stockade.wire.api import File

SEPARATOR = "---"


def replaced(files: Sequence[File], text: str) -> tuple[str, ...]:
    """Return the files that hold a document of the same kind and name as one of the text's."""
    wanted = _named(text)
    return tuple(each.name for each in files if wanted & _named(each.text))


def taken(files: Sequence[File], text: str, name: str) -> tuple[File, ...]:
    """Return the files with the text's documents in them. Every other document is as it was, to the character.

    What is replaced goes with the comments in it.
    """
    wanted, found, placed = _named(text), list[File](), False
    for file in files:
        kept = [part for part in _parts(file.text) if not wanted & _named(part)]
        if len(kept) == len(_parts(file.text)):
            found.append(file)
            continue
        if not placed:
            kept = _with(file.text, kept, text, wanted)
            placed = True
        if any(part.strip() for part in kept):
            found.append(File(file.name, _joined(kept)))
    return tuple(found) if placed else (*found, File(free_name(files, name), text))


def free_name(files: Sequence[File], name: str) -> str:
    """Return a name that no file has yet."""
    have = {each.name for each in files}
    names = (f"{name}.yaml", *(f"{name}-{number}.yaml" for number in range(2, len(files) + 3)))
    return next(each for each in names if each not in have)


def _named(text: str) -> set[tuple[str, str]]:
    return {(each.kind, each.name) for each in _documents(text)}


def _documents(text: str) -> tuple[Written, ...]:
    return policy.read((policy.SourceText("text", text.encode("utf-8", "replace")),)).documents


def _parts(text: str) -> list[str]:
    """Return a file's documents, each with what stands around it: one ends where a line begins with three dashes."""
    return list(_split(text))


def _split(text: str) -> Iterator[str]:
    part: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith(SEPARATOR) and line[3:4] in ("", " ", "\t", "\n", "\r"):
            yield "".join(part)
            part = []
        part.append(line)
    yield "".join(part)


def _with(before: str, kept: list[str], text: str, wanted: set[tuple[str, str]]) -> list[str]:
    """Return the parts with the new text where the first of the old documents stood."""
    at = next(place for place, part in enumerate(_parts(before)) if wanted & _named(part))
    return [*kept[:at], text, *kept[at:]]


def _joined(parts: Sequence[str]) -> str:
    text = ""
    for part in parts:
        if text.strip() and not part.startswith(SEPARATOR):
            text += f"{SEPARATOR}\n"
        text += part if part.endswith("\n") or not part else part + "\n"
    return text
