"""A day of the shop's traffic, as its host would record it: what is meant, what is denied, and what is odd."""

from typing import NamedTuple

from tests.controller.controlled import HOST
from tests.web.consoled import Consoled

from stockade.core.model.flow import Flow, FlowKey, Tally, Verdict, Via
from stockade.core.model.flow_table import FlowBatch, told
from stockade.core.model.ids import Address, RuleId, WorkloadId
from stockade.core.model.packet import Direction

INTERNET, OFFICE = "8.8.8.8", "192.168.7.9"


class Talk(NamedTuple):
    """Connections of one pair of ends on a port: how many, by which rule, and what they carried."""

    source: str
    destination: str
    port: int
    verdict: Verdict
    connections: int
    rule: str = "default"
    out: int = 0
    back: int = 0
    process: str = ""


OK, NO, WOULD = Verdict.ALLOWED, Verdict.DENIED, Verdict.WOULD_DENY
TALKS = (
    *(Talk(f"web-{web}", f"api-{api}", 8080, OK, 40 * web + api, "shop/web-to-api", 9_000, 180_000, "nginx")
      for web in range(1, 6) for api in range(1, 4)),
    *(Talk(f"api-{api}", "db-1", 5432, OK, 30 * api, "shop/api-to-db", 20_000, 400_000, "shop-api")
      for api in range(1, 4)),
    *(Talk(f"api-{api}", "cache-1", 6379, NO, 3 * api) for api in range(1, 4)),
    Talk("web-3", "db-1", 5432, NO, 17, process="curl"),
    Talk("web-1", INTERNET, 443, NO, 4),
    Talk(OFFICE, "web-1", 443, NO, 2),
    Talk("host-a", INTERNET, 53, WOULD, 12),
    Talk("batch-91", "db-1", 5432, NO, 6),
    Talk("host-a", "batch-91", 22, WOULD, 1),
)  # fmt: skip


def tell(console: Consoled, talks: tuple[Talk, ...] = TALKS, *, number: int = 1, ago: float = 600.0) -> None:
    """Have the host tell of connections that began so many seconds ago."""
    controller = console.installation.controller
    addresses = {
        each.name: (each.id, each.seen.endpoints[0].addresses[0]) for each in controller.snapshot.workloads.values()
    }
    now = controller.clock.now()
    flows = [flow for talk in talks for flow in _flows(talk, addresses, now - ago)]
    batch = FlowBatch(HOST, "stream", number, now - ago, now, now, told(flows))
    assert controller.flows is not None
    controller.flows.take(batch, controller.snapshot)


def _flows(talk: Talk, addresses: dict[str, tuple[WorkloadId, Address]], first: float) -> list[Flow]:
    source, destination = (addresses.get(each, (None, Address(each))) for each in (talk.source, talk.destination))
    ends = [end for end, who in ((Direction.EGRESS, source), (Direction.INGRESS, destination)) if who[0]]
    # What is denied as it leaves never arrives.
    said = ends[:1] if talk.verdict is NO else ends
    found = []
    for end in said:
        tally = Tally(first, first + 300, talk.connections, 3 * talk.connections)
        found.append(Flow(_key(talk, source, destination, end, talk.verdict, talk.rule), tally))
    if talk.out:
        tally = Tally(first, first + 300, 0, 9 * talk.connections, talk.out, talk.back, talk.connections, 1.0)
        found.append(Flow(_key(talk, source, destination, ends[0], Verdict.CARRIED, ""), tally))
    return found


def _key(talk: Talk, source: tuple[WorkloadId | None, Address], destination: tuple[WorkloadId | None, Address],
         end: Direction, verdict: Verdict, rule: str) -> FlowKey:  # fmt: skip
    process = talk.process if end is Direction.EGRESS else ""
    return FlowKey(
        source[1], destination[1], 6, talk.port, end, verdict, RuleId(rule), source[0], destination[0],
        Via.DIRECT, "", process,
    )  # fmt: skip
