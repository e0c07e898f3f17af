"""What a running installation is made of, for the API to speak of and to drive."""

import os

import msgspec

import stockade
from stockade.controller.anomalies import AnomalyWatch
from stockade.controller.census import Censuses
from stockade.controller.exporters.exporters import Exporters
from stockade.controller.finding_views import without_evidence
from stockade.controller.graphs import Graphs
from stockade.controller.lifecycle import Lifecycle
from stockade.controller.links import LinkBook
from stockade.controller.loop import Controller
from stockade.controller.views import host_views, pending_view, severity_counts
from stockade.wire.api import Caller, Setting, StatusReply


class Installation(msgspec.Struct, frozen=True):
    """A controller, the life of its policy, and the settings that it was started with."""

    controller: Controller
    lifecycle: Lifecycle
    settings: tuple[Setting, ...] = ()
    links: LinkBook | None = None
    """Into the web console; None where there is none."""
    graphs: Graphs = msgspec.field(default_factory=Graphs)
    """What the map remembers between two questions."""
    censuses: Censuses = msgspec.field(default_factory=Censuses)
    anomalies: AnomalyWatch | None = None
    """None where no flows are kept."""
    exporters: Exporters | None = None
    """Devices that tell of flows; None where none is heard."""


async def status(installation: Installation, caller: Caller) -> StatusReply:
    """Describe the whole installation at a glance."""
    controller = installation.controller
    snapshot = controller.snapshot
    active = await installation.lifecycle.stored(snapshot.version)
    found = without_evidence(controller)
    census = installation.censuses.of(snapshot)
    return StatusReply(
        product=stockade.__version__,
        version=snapshot.version,
        revision=snapshot.revision,
        note=active.note,
        author=active.author,
        applied_at=active.at,
        started=controller.started,
        pid=os.getpid(),
        you=caller,
        hosts=host_views(snapshot, controller.roster, census),
        workloads=len(snapshot.workloads),
        unknown=census.unknown,
        modes=census.modes,
        quarantines=tuple(each.name for each in snapshot.policy.quarantines if each.name not in snapshot.lapsed),
        contests=census.contests,
        pending=pending_view(controller.unconfirmed),
        settings=installation.settings,
        stalled=controller.stalled,
        unstored=controller.unstored,
        findings=severity_counts(found),
        accepted=controller.findings.accepted_now(),
        unassessed=len(found.unassessed),
    )
