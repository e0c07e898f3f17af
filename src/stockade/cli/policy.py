"""``stockade policy``: check files, show a version, print the schema. ``check`` and ``schema`` need no server."""

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
from stockade.wire.api import Message, PolicyReply

app = App(name="policy", help="Check policy files, show a version, print the JSON Schema.")


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


def files_view(reply: PolicyReply) -> View:
    """Each file under its name, as YAML comments, so that the whole can be piped into a file."""
    for each in reply.files:
        yield line(f"# {each.name}")
        yield from (line(text) for text in each.text.splitlines())
        yield line("---")


def canonical_view(reply: PolicyReply) -> View:
    """The canonical documents."""
    yield from (line(text) for text in reply.canonical.splitlines())
