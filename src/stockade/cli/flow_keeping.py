"""Where ``up`` keeps flows, and what records them; neither where they are off or cannot be kept."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from stockade.cli.settings import OFF, Settings
from stockade.errors import StockadeError

if TYPE_CHECKING:
    from stockade.agent.flows.recorder import Recorder
    from stockade.controller.exporters.hearing import Devices
    from stockade.core.model.ids import HostId
    from stockade.seams.flow_store import FlowStore
    from stockade.seams.flows import Programs
    from stockade.seams.link import ControllerLink

NEEDED = ("clickhouse_connect", "chdb", "pyarrow")


def why_not(settings: Settings) -> str:
    """Say why no flows are kept; empty where they are."""
    if settings.flows == OFF:
        return "the setting flows is off"
    absent = [each for each in NEEDED if find_spec(each) is None]
    return f"{', '.join(absent)} not installed: pip install 'stockade[flows]'" if absent else ""


def store(settings: Settings) -> "FlowStore | None":
    """Return where flows are kept. It starts when it is first needed."""
    if why_not(settings):
        return None
    from stockade.adapters.clickhouse.apart import FlowStoreApart
    from stockade.seams.flow_store import Retention

    retention = Retention(*settings.flows_days, settings.flows_size)
    remote = "://" in settings.flows
    journal = settings.state / "flow-journal" if remote else None  # beside the flows where they are here
    return FlowStoreApart(settings.flows, retention=retention, journal=journal)


def recorder(settings: Settings, host: "HostId", link: "ControllerLink", programs: "Programs") -> "Recorder | None":
    """Return what records this host's flows."""
    if why_not(settings):
        return None
    from stockade.adapters.netfilter.flows import KernelFlows
    from stockade.agent.flows.recorder import Recorder
    from stockade.agent.flows.spool import Spool
    from stockade.controller.clock import SystemClock

    spool = Spool(settings.state)
    return Recorder(host, source=KernelFlows, link=link, spool=spool, clock=SystemClock(), programs=programs)


def devices(settings: Settings) -> "Devices | None":
    """Return where exporters are heard, and which; None where none is.

    ``StockadeError`` where they cannot be heard, or what they tell cannot be kept.
    """
    if settings.netflow is None:
        return None
    if why := why_not(settings):
        raise StockadeError(
            f"netflow is on, and no flows are kept: {why}",
            kept="nothing was started",
            remedy="keep flows, or set netflow to off",
        )
    from stockade.adapters.netflow import Ear
    from stockade.controller.exporters.hearing import Devices

    return Devices(Ear.at(*settings.netflow), settings.netflow_exporters)
