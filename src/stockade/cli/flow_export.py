"""Flows → a file or stdout: csv, one JSON object a line, or parquet; page by page, however many there are."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stockade.cli.client import Client
from stockade.cli.output import remark
from stockade.controller.flow_files import PAGE, FlowFile, Page, written
from stockade.errors import StockadeError
from stockade.wire.flows import FlowsReply


def export(client: Client, which: dict[str, Any], form: FlowFile, file: Path | None) -> None:
    """Write every flow that is asked for, to a new file or to stdout."""
    if form is FlowFile.PARQUET and file is None:
        raise StockadeError("parquet is not for a terminal", kept="nothing was written", remedy="name a --file")
    pages = _Counted(client, which)
    try:
        if file is None:
            sys.stdout.buffer.writelines(written(pages, form))
        else:
            with file.open("xb") as out:
                out.writelines(written(pages, form))
    except FileExistsError:
        raise StockadeError(
            f"{file} is there already", kept="it is as it was", remedy="name another file, or remove it"
        ) from None
    remark(f"{pages.count} flows written")


class _Counted:
    """Every page of what is asked for, and how many flows there were in them."""

    def __init__(self, client: Client, which: dict[str, Any]) -> None:
        self._client, self._which = client, which
        self.count = 0

    def __iter__(self) -> Iterator[Page]:
        after: str | None = None
        while True:
            reply = self._client.call("flows", FlowsReply, limit=PAGE, after=after, **self._which)
            self.count += len(reply.flows)
            yield reply.flows
            if (after := reply.after) is None:
                return
