"""Flows → a file: csv, one JSON object a line, or parquet; page by page, so that no more than a page is held."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

import msgspec

from stockade.errors import StockadeError
from stockade.wire.flows import FlowEndView, FlowView

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


Cell = str | int | float
Row = tuple[Cell, ...]


def flat(page: Page) -> Iterator[Row]:
    """Yield each flow as one row, of ``COLUMNS``. Labels are one text, ``key=value`` separated by spaces."""
    ends = {end: _end_cells(end) for end in {end for each in page for end in (each.source, each.destination)}}
    for each in page:
        yield (
            each.host, each.first, each.last, *ends[each.source], *ends[each.destination],
            each.on, each.end.value, each.verdict.value, each.rule, each.via.value, each.service, each.process,
            each.connections, each.packets, each.bytes_out, each.bytes_in, each.ended, each.seconds,
        )  # fmt: skip


def _end_cells(end: FlowEndView) -> tuple[str, ...]:
    labels = " ".join(f"{key}={value}" for key, value in end.labels)
    return (end.name, end.address, end.workload or "", labels, end.network, end.told)


def spreadsheet(page: Page, *, head: bool) -> str:
    """What a spreadsheet would take for a formula is written as text."""
    text = io.StringIO()
    writer = csv.writer(text)
    if head and page:
        writer.writerow(COLUMNS)
    writer.writerows(map(harmless_row, flat(page)))
    return text.getvalue()


_FORMULA = re.compile(r"(^|[;\t\r\n])([\s\x00-\x1f\ufeff\u200b]*)([=+\-@\uff1d\uff0b\uff0d\uff20\t\r])")
"""What begins a formula, where a cell begins: also for a program that ends cells at a semicolon or tab, overlooks space
or reads full-width signs as plain ones."""


def harmless(value: str | float) -> str | float:
    """Return what a spreadsheet shows and does not compute: an apostrophe stands before what begins a formula."""
    return _FORMULA.sub(r"\1'\2\3", value) if isinstance(value, str) else value


def harmless_row(row: Row) -> Row:
    """Return a row of harmless cells. Hardly any holds a formula, so all are looked at at once first."""
    texts = "\n".join([cell for cell in row if isinstance(cell, str)])
    return tuple(map(harmless, row)) if _FORMULA.search(texts) else row


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
    out, schema = _Drain(), _schema(pa)
    with parquet.ParquetWriter(out, schema) as writer:
        for page in pages:
            if page:
                columns = zip(*flat(page), strict=True)
                arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
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
