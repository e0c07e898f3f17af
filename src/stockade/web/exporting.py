"""Flows as a file to keep: sent page by page, never more than one page held, of no more flows than a bound.

What cannot be sent whole is cut off so that a browser says that it failed: no part passes for the whole.
"""

import asyncio
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from stockade.controller.flow_files import PAGE, FlowFile, Page, written
from stockade.controller.refused import Refused, Why
from stockade.errors import StockadeError
from stockade.web.asking import Desk
from stockade.web.pages.asking import Asking
from stockade.web.pages.flow_asking import FlowAsking, read_asking
from stockade.web.pages.flows import MOST_WRITTEN
from stockade.wire.flows import FlowsReply

PATH = "/flows/export"
AT_ONCE = 2
"""Files that are being sent to one session."""
MEDIA = {
    FlowFile.CSV: "text/csv; charset=utf-8",
    FlowFile.JSON: "application/x-ndjson",
    FlowFile.PARQUET: "application/vnd.apache.parquet",
}
ENDINGS = {FlowFile.CSV: "csv", FlowFile.JSON: "jsonl", FlowFile.PARQUET: "parquet"}


class Exported(msgspec.Struct, frozen=True):
    """A file that is on its way: its name, what it is, its parts."""

    name: str
    media: str
    parts: Iterator[bytes]


def exported(desk: Desk, asking: Asking) -> Exported:
    """Begin a file. Blocks until its first part is there; what is wrong by then is raised, and nothing is sent."""
    now = desk.installation.controller.clock.now()
    asked = read_asking(asking, desk.installation.controller.snapshot, now)
    form = _form(asking.text("form"))
    for name, wrong in asked.mistakes.items():
        raise Refused(Why.INVALID, f"{name}: {wrong.message}", kept="Nothing was written.", remedy=wrong.remedy)
    parts = written(_pages(desk, asked), form)
    first = next(parts, b"")
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    return Exported(f"flows-{stamp}.{ENDINGS[form]}", MEDIA[form], itertools.chain((first,), parts))


def _form(text: str) -> FlowFile:
    try:
        return FlowFile(text)
    except ValueError:
        forms = ", ".join(each.value for each in FlowFile)
        raise Refused(Why.MALFORMED, f'"{text[:40]}" is no form of a file', remedy=f"One of: {forms}.") from None


def _pages(desk: Desk, asked: FlowAsking) -> Iterator[Page]:
    after, count = "", 0
    while True:
        reply = asyncio.run(desk.ask("flows", FlowsReply, limit=str(PAGE), after=after, shown=False, which=asked.which))
        count += len(reply.flows)
        if count > MOST_WRITTEN:
            raise StockadeError(
                f"more than {MOST_WRITTEN} flows", kept="the file is not whole", remedy="ask for a shorter time"
            )
        yield reply.flows
        if reply.after is None:
            return
        after = reply.after
