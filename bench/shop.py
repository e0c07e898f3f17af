"""The demo's shop as an inventory that can be folded, and policies of it that differ while they mean the same to its
steady traffic.
"""

from collections.abc import Iterator
from functools import cache

from msgspec.structs import replace

from stockade.cli.demo import shop_files
from stockade.cli.shop_lab import SHOP
from stockade.core import policy
from stockade.core.model.event import Event, HostSeen, WorkloadSeen
from stockade.core.model.policy import PolicySet
from stockade.errors import StockadeError
from stockade.testing.lab import Lab, bridged
from stockade.testing.steady import Flow, Kind

GROUND = replace(SHOP, nodes=(*SHOP.nodes, bridged("extra", "ops", app="extra")))
"""The shop, and a workload that comes and goes as policy has it."""

POLICIES = 100
MORE = """
apiVersion: stockade.dev/v1
kind: Policy
metadata: {{name: bench}}
spec:
  rules:
    - name: steady
      allow: {{from: app = prometheus, to: app = shop and role = db, on: [udp/9053]}}
    - name: coming-and-going
      allow: {{from: app = extra, to: "app = shop and role in (web, api)", on: [tcp/{port}]}}
    - name: cut
      overrideDeny: {{from: app = intruder, to: app = shop, on: [tcp/{cut}]}}
    - name: by-team
      allow: {{from: app = extra, to: app = shop and team = odd, on: [tcp/8081]}}
"""

HELD = (
    *(Flow(Kind.HOLD, "web-1", "api-1", 8080, family) for family in (4, 6)),
    *(Flow(Kind.STREAM, "web-1", "api-1", 53, family) for family in (4, 6)),
    *(Flow(Kind.OPEN, "api-1", "db-1", 5432, family, pause=0.05) for family in (4, 6)),
    *(Flow(Kind.HOLD, "payments", "web-1", 80, family) for family in (4, 6)),
    *(Flow(Kind.STREAM, "prometheus", "db-1", 9053, family) for family in (4, 6)),
    *(Flow(Kind.OPEN, "prometheus", "web-1", 9100, family, pause=0.05) for family in (4, 6)),
)
"""What every one of these policies allows: the first three pairs stay on one bridge, the others are routed."""

DENIED = tuple(
    Flow(Kind.TRY, source, destination, port + 10 * family, family, pause=0.01)
    for source, destination, port in (
        ("web-1", "db-1", 7003),
        ("db-1", "web-1", 7005),
        ("intruder", "db-1", 7001),
        ("intruder", "api-1", 7002),
        ("payments", "db-1", 7004),
    )
    for family in (4, 6)
)
"""What none of them allows: the first two pairs stay on one bridge, the others are routed."""


def inventory(lab: Lab) -> Iterator[Event]:
    """Yield the events of everything that is there."""
    yield HostSeen(lab.host())
    for sighting in lab.sightings():
        yield WorkloadSeen(sighting)


def shop_policy(number: int) -> PolicySet:
    """Return the shop's policy with rules that no steady traffic meets: others for each of ``POLICIES`` numbers."""
    return _read(number % POLICIES)


@cache
def _read(number: int) -> PolicySet:
    more = policy.SourceText("bench.yaml", policy_text(number).encode())
    draft = policy.read((*(policy.SourceText(each.name, each.text.encode()) for each in shop_files()), more))
    if draft.problems:
        raise StockadeError(f"the benchmark's policy is wrong: {draft.problems[0]}")
    kept, _ = policy.enforceable(policy.complete(draft.policy))
    return kept


def policy_text(number: int) -> str:
    """Return the document that makes one of the policies what it is."""
    return MORE.format(port=20_000 + number, cut=40_000 + number)
