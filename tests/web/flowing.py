"""A shop whose flows were recorded: an hour and some days of them, in a real store, with a few that were lost."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.controller.controlled import HOST
from tests.web.consoled import Consoled, consoled

from stockade.adapters.clickhouse.apart import FlowStoreApart
from stockade.core.model.flow import Flow, FlowKey, FlowLoss, Tally, Verdict, Via
from stockade.core.model.flow_table import FlowBatch, told
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.seams.clock import Clock
from stockade.seams.flow_store import Retention

KEPT = Retention(raw=10_000, minute=10_000, hour=10_000)
"""A clock that stands still stands in the past."""
NUMBERS = {"web-1": 11, "api-1": 12, "db-1": 13, "web-2": 32, "web-3": 33, "cache-1": 50, "batch-91": 21}
STRANGER = "203.0.113.9"
WEB_TO_API, API_TO_DB, DEFAULT = map(RuleId, ("shop/web-to-api", "shop/api-to-db", "default"))
LEAVES, ENTERS = Direction.EGRESS, Direction.INGRESS


def key(source: str, to: str, port: int, end: Direction, verdict: Verdict, rule: str = "", **more: object) -> FlowKey:
    """A flow's key between two of the shop's, by name, or an address of nobody's."""
    (left, one), (right, other) = _end(source), _end(to)
    return FlowKey(
        left, right, 6, port, end, verdict, RuleId(rule), source_workload=one, destination_workload=other, **more  # type: ignore[arg-type]
    )  # fmt: skip


def _end(name: str) -> tuple[Address, WorkloadId | None]:
    number = NUMBERS.get(name)
    return (Address(f"10.1.0.{number}"), WorkloadId(f"docker:host-a:{name}")) if number else (Address(name), None)


def both(source: str, to: str, port: int, rule: RuleId, at: float, count: int = 1) -> tuple[Flow, ...]:
    """An allowed connection as it is told of: at either end, and what it carried."""
    return (
        Flow(key(source, to, port, LEAVES, Verdict.ALLOWED, rule), Tally(at, at + 0.1, count, count, 60 * count)),
        Flow(key(source, to, port, ENTERS, Verdict.ALLOWED, rule), Tally(at, at + 0.1, count, count, 60 * count)),
        Flow(
            key(source, to, port, ENTERS, Verdict.CARRIED),
            Tally(at + 1, at + 1.5, 0, 9 * count, 800 * count, 12_000 * count, count, 0.4 * count),
        ),
    )


def shop_flows(now: float) -> tuple[Flow, ...]:
    """An hour of a shop, and some days before at the same time of day."""
    found: list[Flow] = []
    for minute in range(2, 58, 3):
        at = now - minute * 60
        found += both(f"web-{1 + minute % 3}", "api-1", 8080, WEB_TO_API, at, 3 + minute % 7)
        found += both("api-1", "db-1", 5432, API_TO_DB, at + 0.3, 1 + minute % 4)
        if minute % 4 == 1:
            refused = key("web-1", "db-1", 5432, ENTERS, Verdict.DENIED, DEFAULT)
            found.append(Flow(refused, Tally(at + 0.5, at + 3.5, 2, 5, 300)))
    proxied = key(STRANGER, "web-1", 443, ENTERS, Verdict.ALLOWED, DEFAULT, via=Via.PROXY, service="192.0.2.10:443")
    watched = key("batch-91", STRANGER, 443, LEAVES, Verdict.WOULD_DENY, DEFAULT, process="curl (batch.service)")
    found += [
        Flow(proxied, Tally(now - 400, now - 399, 4, 4, 240)),
        Flow(watched, Tally(now - 200, now - 190, 6, 6, 360)),
    ]
    for day in range(1, 7):
        found += both("web-1", "api-1", 8080, WEB_TO_API, now - day * 86_400, 20 + day)
        found += both("api-1", "db-1", 5432, API_TO_DB, now - day * 86_400 + 0.5, 9 + day)
    return tuple(found)


def record(
    console: Consoled, *flows: Flow, number: int = 1, lost: tuple[FlowLoss, ...] = (), host: HostId = HOST
) -> None:
    """Store flows as the host's agent would have them stored."""
    controller = console.installation.controller
    assert controller.flows is not None
    now = controller.clock.now()
    batch = FlowBatch(host, "stream", number, now - 2, now - 1, now, told(flows), lost)
    controller.flows.take(batch, controller.snapshot)


@contextmanager
def flowing(folder: Path, clock: Clock | None = None, *, recorded: bool = True) -> Iterator[Consoled]:
    """A console over a shop with a flow store, and with flows in it."""
    with closing(FlowStoreApart(folder / "flows", retention=KEPT)) as flows, consoled(folder, clock, flows) as console:
        console.furnish()
        if recorded:
            now = console.installation.controller.clock.now()
            record(console, *shop_flows(now), lost=(FlowLoss("nflog", "decisions", 12),))
        yield console
