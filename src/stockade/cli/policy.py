"""``stockade policy``: check files, import a table, show a version, print the schema. Only ``show`` needs a server."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stockade.cli.exits import Exit
from stockade.cli.files import read_sources
from stockade.cli.moments import stamp
from stockade.cli.output import DENIED, View, bold, line, remark
from stockade.cli.problems import problem_lines
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common, Format, resolve
from stockade.core.model.problem import Problem
from stockade.core.policy.nodes import SourceText
from stockade.core.policy.read import read
from stockade.core.policy.sheet import read_sheet
from stockade.errors import StockadeError
from stockade.wire.api import Message, PolicyReply

app = App(name="policy", help="Check policy files, make some of a table, show a version, print the JSON Schema.")


class CheckReply(Message, frozen=True, kw_only=True):
    """What ``check`` found: how many files and documents were read, and every mistake in them."""

    files: int
    documents: int
    problems: tuple[Problem, ...] = ()


@app.command
def check(
    *paths: Annotated[Path, Parameter(help="A folder, or files. - is stdin.")],
    common: Common = NO_FLAGS,
) -> int:
    """Every mistake in policy files, each with its place and the nearest valid spelling. Needs no server.

    Exits 2 where there is one. Tests and invariants need an inventory: `stockade plan` runs them.
    """
    settings = resolve(common)
    sources = read_sources(paths or (Path(),))
    draft = read(SourceText(name, content) for name, content in sources)
    reply = CheckReply(files=len(sources), documents=len(draft.documents), problems=draft.problems)
    deliver(settings, reply, check_view)
    return Exit.LOOK if draft.problems else Exit.DONE


class ImportReply(Message, frozen=True, kw_only=True):
    """What ``import`` made of a table: how many workloads, where they were written, or else the documents."""

    workloads: int
    problems: tuple[Problem, ...] = ()
    unlisted: int = 0
    out: str = ""
    documents: str = ""


@app.command(name="import")
def import_(
    table: Annotated[Path, Parameter(help="A CSV file. - is stdin.")],
    *,
    out: Annotated[
        Path | None, Parameter(help="Where to write the documents; without it, stdout. A file there is replaced.")
    ] = None,
    common: Common = NO_FLAGS,
) -> int:
    """Documents of workloads without an agent, made of a table. Needs no server; nothing is applied.

    The first row is the header. Columns: `name`, and `addresses` (or `address`), several of them with blanks, commas or
    semicolons between; optional `host`, `kind` (unmanaged, vm, instance) and `description`. Every other column is a
    label, its header the key (`app`, `role`; `label:KEY` where the key is a column's word); an empty cell sets none.
    Commas, semicolons or tabs separate, whichever comes first in the header. UTF-8, quotes as spreadsheets write them.

    At most 10,000 workloads. With a mistake in any row nothing is written; each is named with file, line and column.
    """
    settings = resolve(common)
    ((name, content),) = read_sources((table,))
    sheet = read_sheet(SourceText(name, content))
    if not sheet.problems and out is not None:
        _write(out, sheet.documents)
    reply = ImportReply(
        workloads=len(sheet.workloads),
        problems=sheet.problems,
        unlisted=sheet.unlisted,
        out=str(out) if out is not None and not sheet.problems else "",
        documents=sheet.documents if out is None else "",
    )
    deliver(settings, reply, import_view)
    return Exit.ERROR if sheet.problems else Exit.DONE


def _write(out: Path, text: str) -> None:
    """Write a file whole, or leave what is there."""
    half = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(out)
    except OSError as problem:
        half.unlink(missing_ok=True)
        raise StockadeError(
            f"cannot write {out}: {problem.strerror}",
            kept="Nothing was written; a file that was there is as it was.",
            remedy="Name a file in a folder that you may write to.",
        ) from None


@app.command
def show(
    version: Annotated[str, Parameter(help="Its number.")] = "active",
    *,
    canonical: Annotated[
        bool, Parameter(negative="", help="Every document in force, built-in ones too, in canonical form.")
    ] = False,
    common: Common = NO_FLAGS,
) -> int:
    """One version's files as they were written."""
    settings, client = connect(common)
    reply = client.call("policy", PolicyReply, version=version)
    if settings.output is Format.TABLE:
        at = reply.version
        remark(bold(f"Version {at.number}"), f" by {at.author}, {stamp(at.at)}{f': {at.note}' if at.note else ''}")
    deliver(settings, reply, canonical_view if canonical else files_view)
    return Exit.DONE


@app.command
def schema() -> int:
    """The JSON Schema of every kind, for editors to complete and check by. Needs no server."""
    from stockade.cli.output import rendered
    from stockade.core.policy.schema import schema as schema_of_all

    print(rendered(schema_of_all(), Format.JSON), end="")
    return Exit.DONE


def check_view(reply: CheckReply) -> View:
    """Each problem underlined, then how many."""
    yield from problem_lines(reply.problems)
    many = len(reply.problems)
    files = f"{reply.files} file{'s' if reply.files != 1 else ''}"
    if many:
        yield line(
            DENIED, f" {many} problem{'s' if many != 1 else ''} in {files}. Nothing was sent; what is in force stays."
        )
    else:
        yield line(f"{reply.documents} document{'s' if reply.documents != 1 else ''} in {files}: no mistakes.")


def import_view(reply: ImportReply) -> View:
    """The documents, or where they are; or each problem underlined."""
    yield from problem_lines(reply.problems)
    many = len(reply.problems) + reply.unlisted
    if many:
        more = f" ({reply.unlisted} of them not listed)" if reply.unlisted else ""
        yield line(DENIED, f" {many} problem{'s' if many != 1 else ''}{more}. Nothing was written.")
    elif reply.out:
        yield line(f"{reply.workloads} workload{'s' if reply.workloads != 1 else ''} written to {reply.out}.")
    else:
        yield from (line(text) for text in reply.documents.splitlines())


def files_view(reply: PolicyReply) -> View:
    """Each file under its name, as YAML comments, so that the whole can be piped into a file."""
    for each in reply.files:
        yield line(f"# {each.name}")
        yield from (line(text) for text in each.text.splitlines())
        yield line("---")


def canonical_view(reply: PolicyReply) -> View:
    """The canonical documents."""
    yield from (line(text) for text in reply.canonical.splitlines())
