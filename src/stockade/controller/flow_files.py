"""Flows → a file: csv, one JSON object a line, or parquet; page by page, so that no more than a page is held."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

import msgspec

from stockade.errors import StockadeError
from stockade.wire.flows import FlowView

PAGE = 10_000
"""Flows that are asked for at once."""
Page = tuple[FlowView, ...]


class FlowFile(str, Enum):
    """Forms of a file of flows."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def written(pages: Iterable[Page], form: FlowFile) -> Iterator[bytes]:
    """Return a file, part by part. ``StockadeError`` at the first one where this machine cannot write that form."""
    if form is FlowFile.PARQUET:
        return _parquet(pages)
    return _lines(pages) if form is FlowFile.JSON else _spreadsheets(pages)


def _lines(pages: Iterable[Page]) -> Iterator[bytes]:
    for page in pages:
        yield b"".join(msgspec.json.encode(each) + b"\n" for each in page)


def _spreadsheets(pages: Iterable[Page]) -> Iterator[bytes]:
    head = True
    for page in pages:
        yield spreadsheet(page, head=head).encode()
        head = head and not page


def flat(each: FlowView) -> dict[str, str | int | float]:
    """Return a flow as one row. Labels are one text, ``key=value`` separated by spaces."""
    row: dict[str, str | int | float] = {"host": each.host, "first": each.first, "last": each.last}
    for name, end in (("source", each.source), ("destination", each.destination)):
        row |= {
            name: end.name,
            f"{name}_address": end.address,
            f"{name}_workload": end.workload or "",
            f"{name}_labels": " ".join(f"{key}={value}" for key, value in end.labels),
            f"{name}_network": end.network,
            f"{name}_told": end.told,
        }
    row |= {"on": each.on, "end": each.end.value, "verdict": each.verdict.value, "rule": each.rule}
    row |= {"via": each.via.value, "service": each.service, "process": each.process}
    row |= {"connections": each.connections, "packets": each.packets}
    row |= {"bytes_out": each.bytes_out, "bytes_in": each.bytes_in, "ended": each.ended, "seconds": each.seconds}
    return row


def spreadsheet(page: Page, *, head: bool) -> str:
    """What a spreadsheet would take for a formula is written as text."""
    text = io.StringIO()
    rows = [flat(each) for each in page]
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        if head:
            writer.writeheader()
        writer.writerows({key: harmless(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


_FORMULA = re.compile(r"(^|[;\t\r\n])([\s\x00-\x1f\ufeff\u200b]*)([=+\-@\uff1d\uff0b\uff0d\uff20\t\r])")
"""What begins a formula, where a cell begins: also for a program that ends cells at a semicolon or tab, overlooks space
or reads full-width signs as plain ones."""


def harmless(value: str | float) -> str | float:
    """Return what a spreadsheet shows and does not compute: an apostrophe stands before what begins a formula."""
    return _FORMULA.sub(r"\1'\2\3", value) if isinstance(value, str) else value


class _Drain(io.RawIOBase):
    """A file that is written to and emptied in turn: what holds a part until it is sent on."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        content = bytes(part)
        self._parts.append(content)
        return len(content)

    def drained(self) -> bytes:
        content = b"".join(self._parts)
        self._parts.clear()
        return content


def _parquet(pages: Iterable[Page]) -> Iterator[bytes]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise StockadeError(
            "pyarrow, which writes parquet, is not installed here",
            kept="nothing was written",
            remedy="pip install 'stockade[flows]', or export csv",
        ) from None
    out = _Drain()
    with parquet.ParquetWriter(out, _schema(pa)) as writer:
        for page in pages:
            if page:
                writer.write_table(pa.Table.from_pylist([flat(each) for each in page], schema=_schema(pa)))
            yield out.drained()
    yield out.drained()


NUMBERS = ("connections", "packets", "bytes_out", "bytes_in", "ended")
MOMENTS = ("first", "last", "seconds")
OF_AN_END = ("", "_address", "_workload", "_labels", "_network", "_told")
COLUMNS = (
    "host", "first", "last", *(f"{end}{what}" for end in ("source", "destination") for what in OF_AN_END), "on",
    "end", "verdict", "rule", "via", "service", "process", *NUMBERS, "seconds",
)  # fmt: skip


def _schema(pa: Any) -> Any:
    kinds = dict.fromkeys(NUMBERS, pa.int64()) | dict.fromkeys(MOMENTS, pa.float64())
    return pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
