"""Policy files as a user names them: folders or files; ``-`` has become ``/dev/stdin``. Reads, never writes."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stockade.errors import StockadeError
from stockade.wire.api import File

SUFFIXES = (".yaml", ".yml")
LIMIT = 8 * 1024 * 1024
"""Bytes of one file. A policy is text that people read."""
KEPT = "nothing was sent; what is in force stays in force"


def read_files(paths: Sequence[Path]) -> tuple[File, ...]:
    """Return every policy file under ``paths``, by name. ``StockadeError`` where one cannot be read as text."""
    return tuple(File(name, _text(name, content)) for name, content in read_sources(paths))


def read_sources(paths: Sequence[Path]) -> tuple[tuple[str, bytes], ...]:
    """Return the name and bytes of every policy file under ``paths``, by name. ``StockadeError`` where one cannot."""
    names = sorted(set(_expand(paths)))
    if not names:
        raise StockadeError(
            f"no policy files in {', '.join(map(str, paths))}",
            kept=KEPT,
            remedy=f"name a folder with files ending in {' or '.join(SUFFIXES)}, or the files themselves",
        )
    return tuple((str(name), _bytes(name)) for name in names)


def _expand(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (each for each in path.rglob("*") if each.suffix in SUFFIXES and _visible(each, path))
        else:
            yield path


def _visible(path: Path, top: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(top).parts)


def _bytes(path: Path) -> bytes:
    try:
        content = _head(path)
    except OSError as problem:
        raise StockadeError(f"cannot read {path}: {problem.strerror}", kept=KEPT, remedy="check the name") from None
    if len(content) > LIMIT:
        raise StockadeError(
            f"{path} is larger than {LIMIT // 1024 // 1024} MiB",
            kept=KEPT,
            remedy="split it into several files; policy is text that people read",
        )
    return content


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LIMIT + 1)


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        before = content[: problem.start]
        row = before.count(b"\n") + 1
        column = len(before) - (before.rfind(b"\n") + 1) + 1
        raise StockadeError(
            f"{name}:{row}:{column}: byte 0x{content[problem.start]:02x} is not UTF-8",
            kept=KEPT,
            remedy=f"save the file as UTF-8, for example: iconv -f latin1 -t utf-8 {name}",
        ) from None
