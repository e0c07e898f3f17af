"""Flows → a file: csv, one JSON object a line, or parquet; page by page, however many there are."""

import csv
import io
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from stockade.cli.client import Client
from stockade.cli.output import remark
from stockade.errors import StockadeError
from stockade.wire.flows import FlowsReply, FlowView

PAGE = 10_000
"""Flows that are asked for at once."""


class Export(str, Enum):
    """Forms of a file of flows."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def export(client: Client, which: dict[str, Any], form: Export, file: Path | None) -> None:
    """Write every flow that is asked for, to a new file or to stdout."""
    if form is Export.PARQUET and file is None:
        raise StockadeError("parquet is not for a terminal", kept="nothing was written", remedy="name a --file")
    pages = _pages(client, which)
    try:
        if file is None:
            count = _written(pages, form, sys.stdout.buffer)
        else:
            with file.open("xb") as out:
                count = _written(pages, form, out)
    except FileExistsError:
        raise StockadeError(
            f"{file} is there already", kept="it is as it was", remedy="name another file, or remove it"
        ) from None
    remark(f"{count} flows written")


def _pages(client: Client, which: dict[str, Any]) -> Iterator[tuple[FlowView, ...]]:
    after: str | None = None
    while True:
        reply = client.call("flows", FlowsReply, limit=PAGE, after=after, **which)
        yield reply.flows
        if (after := reply.after) is None:
            return


def _written(pages: Iterator[tuple[FlowView, ...]], form: Export, out: Any) -> int:
    if form is Export.PARQUET:
        return _parquet(pages, out)
    count = 0
    for page in pages:
        if form is Export.JSON:
            out.writelines(msgspec.json.encode(each) + b"\n" for each in page)
        else:
            out.write(spreadsheet(page, head=not count).encode())
        count += len(page)
    return count


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
        }
    row |= {"on": each.on, "end": each.end.value, "verdict": each.verdict.value, "rule": each.rule}
    row |= {"via": each.via.value, "service": each.service, "process": each.process}
    row |= {"connections": each.connections, "packets": each.packets}
    row |= {"bytes_out": each.bytes_out, "bytes_in": each.bytes_in, "ended": each.ended, "seconds": each.seconds}
    return row


def spreadsheet(page: tuple[FlowView, ...], *, head: bool) -> str:
    """What a spreadsheet would take for a formula is written as text."""
    text = io.StringIO()
    rows = [flat(each) for each in page]
    if rows:
        writer = csv.DictWriter(text, list(rows[0]))
        if head:
            writer.writeheader()
        writer.writerows({key: _harmless(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _harmless(value: str | float) -> str | float:
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def _parquet(pages: Iterator[tuple[FlowView, ...]], out: Any) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise StockadeError(
            "pyarrow, which writes parquet, is not installed here",
            kept="nothing was written",
            remedy="pip install 'stockade[flows]', or export csv",
        ) from None
    count, writer = 0, None
    try:
        for page in pages:
            table: pa.Table = pa.Table.from_pylist([flat(each) for each in page])
            if page:
                writer = writer or parquet.ParquetWriter(out, table.schema)
                writer.write_table(table)
                count += len(page)
    finally:
        if writer is not None:
            writer.close()
    return count
