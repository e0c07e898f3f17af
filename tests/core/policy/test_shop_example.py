"""The shop of ``examples/``: its own tests and invariants hold over the inventory that it is written for."""

import pathlib

from stockade.core import policy
from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.inventory import Attachment, Bridge, Endpoint, Host, Sighting, Workload, WorkloadKind
from stockade.core.model.labels import Label, Labels
from stockade.core.model.net import Protocol
from stockade.core.model.packet import Packet
from stockade.core.model.snapshot import Snapshot
from stockade.core.oracle import verdict
from stockade.core.plan import checks
from stockade.core.plan.parties import World
from stockade.core.plan.talk import Talk

SHOP = sorted((pathlib.Path(__file__).parents[3] / "examples" / "shop").glob("*.yaml"))
HOST = HostId("lab")
MEMBERS = {
    "web-0": {"app": "shop", "env": "prod", "role": "web"},
    "web-1": {"app": "shop", "env": "prod", "role": "web"},
    "api-0": {"app": "shop", "env": "prod", "role": "api"},
    "db-0": {"app": "shop", "env": "prod", "role": "db"},
    "mon-0": {"app": "prometheus", "role": "monitoring"},
    "intruder": {"app": "intruder"},
}
ADDRESSES = {name: f"172.30.0.{number}" for number, name in enumerate(MEMBERS, 2)} | {"outside": "203.0.113.10"}
PAYMENTS = "outside"


def workload(name: str) -> Workload:
    mac = f"02:00:00:00:00:{int(ADDRESSES[name].rpartition('.')[2]):02x}"
    endpoint = Endpoint(Attachment.BRIDGED, (Address(ADDRESSES[name]),), f"v-{name}", "br0", mac)
    labels = Labels(tuple(Label(key, value) for key, value in sorted(MEMBERS[name].items())))
    return Workload(Sighting(WorkloadId(name), name, WorkloadKind.NAMESPACE, HOST, endpoints=(endpoint,)), labels)


def snapshot() -> Snapshot:
    draft = policy.read([policy.SourceText(path.name, path.read_bytes()) for path in SHOP])
    assert draft.problems == ()
    host = Workload(Sighting(WorkloadId("lab"), "lab", WorkloadKind.HOST, HOST), Labels((Label("host", "lab"),)))
    host_value = Host(HOST, host.id, ("lo", "br0", "up0"), (Bridge("br0", subnets=("172.30.0.0/24",)),))  # type: ignore[arg-type]
    members = [*map(workload, MEMBERS), host]
    return Snapshot(
        hosts={HOST: host_value}, workloads={each.id: each for each in members}, policy=policy.complete(draft.policy)
    )


def test_its_tests_pass_and_its_invariants_hold() -> None:
    world = World(snapshot())
    assert [(result.text, result.because) for result in checks.tests(world) if not result.passed] == []
    assert [(result.name, result.counterexample) for result in checks.invariants(Talk(world)) if not result.holds] == []
    assert len(checks.tests(world)) >= 10
    assert len(checks.invariants(Talk(world))) == 2


MAY = {
    ("web-0", "api-0", "tcp/8080"),
    ("web-0", "api-0", "udp/53"),
    ("web-1", "api-0", "tcp/8080"),
    ("web-1", "api-0", "udp/53"),
    ("api-0", "db-0", "tcp/5432"),
    ("api-0", PAYMENTS, "tcp/443"),
    (PAYMENTS, "web-0", "tcp/80"),
    (PAYMENTS, "web-1", "tcp/80"),
    *(("mon-0", name, on) for name in ("web-0", "web-1", "api-0", "db-0") for on in ("tcp/9100", "icmp/8/0")),
}
PROBES = ("tcp/80", "tcp/8080", "tcp/5432", "tcp/9100", "tcp/443", "tcp/22", "udp/53", "icmp/8/0")
FREE = {"mon-0", "intruder", PAYMENTS}
"""Outside the shop nothing is enforced: what these say to each other passes."""


def test_who_may_reach_whom_is_what_the_example_promises() -> None:
    world = snapshot()
    for source in ADDRESSES:
        for destination in ADDRESSES:
            for on in PROBES if source != destination else ():
                ports = policy.ports_of(on)
                packet = Packet(
                    HOST,
                    Address(ADDRESSES[source]),
                    Address(ADDRESSES[destination]),
                    Protocol(ports.protocol),
                    ports.first,
                    interface="up0" if source == PAYMENTS else f"v-{source}",
                )
                expected = (source, destination, on) in MAY or {source, destination} <= FREE
                assert verdict(world, packet).allowed is expected, (source, destination, on)
