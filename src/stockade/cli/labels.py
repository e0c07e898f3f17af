"""``stockade labels``: which are in use; ``labels set`` sets an operator's."""

from typing import Annotated

from cyclopts import App, Parameter

from stockade.cli.exits import Exit
from stockade.cli.output import View, columns, line, remark
from stockade.cli.session import connect, deliver
from stockade.cli.settings import NO_FLAGS, Common
from stockade.cli.workloads import long_view
from stockade.errors import StockadeError
from stockade.wire.api import LabelsReply, LabelsRequest, WorkloadReply, WorkloadsReply

app = App(name="labels")


@app.default
def labels(*, common: Common = NO_FLAGS) -> int:
    """Every label in use: by how many workloads, on whose word."""
    settings, client = connect(common)
    deliver(settings, client.call("labels", LabelsReply), labels_view)
    return Exit.DONE


@app.command(name="set")
def set_(
    workload: Annotated[str, Parameter(help="Name or id of the workload.")],
    *assignments: Annotated[str, Parameter(help="key=value, each. None at all takes them back.")],
    common: Common = NO_FLAGS,
) -> int:
    """Set all operator labels of a workload; those not named are taken back.

    What follows from the new labels is enforced at once; `stockade plan` does not see it beforehand.
    """
    settings, client = connect(common)
    request = LabelsRequest(labels=dict(map(_pair, assignments)))
    reply = client.call("set-labels", WorkloadReply, request, workload=workload)
    deliver(settings, reply, lambda it: long_view(WorkloadsReply(revision=it.revision, workloads=(it.workload,))))
    remark(f"Labels set at revision {reply.revision}.")
    return Exit.DONE


def labels_view(reply: LabelsReply) -> View:
    """One line a label and source."""
    rows = ((f"{each.key}={each.value}", each.source.value, str(each.workloads)) for each in reply.labels)
    yield from columns(("LABEL", "SOURCE", "WORKLOADS"), rows)
    if not reply.labels:
        yield line("No labels in use.")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise StockadeError(f'"{text}" is not key=value', kept="no label was changed", remedy="for example: role=web")
    return key, value
