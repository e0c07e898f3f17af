"""incremental(events) == compile(fold(events)); changed points ⊆ affected points."""

from collections.abc import Iterable, Sequence
from random import Random

import msgspec
import pytest

from stockade.core.compile.compiler import Compiler, affected, compile_snapshot
from stockade.core.fold import apply
from stockade.core.model.event import Event, HostSeen, LabelsSet, PolicyActivated, WorkloadSeen
from stockade.core.model.ids import Address, HostId, Realm, RuleId, Version, WorkloadId
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Attachment, Endpoint, Host, Sighting, WorkloadKind
from stockade.core.model.policy import Action, Policy, PolicySet, Rule, Selected
from stockade.core.model.selector import Equal
from stockade.core.model.snapshot import Snapshot
from stockade.core.policy import complete
from stockade.testing.expanders import expand, teardowns
from stockade.testing.scenarios import SCENARIOS
from stockade.testing.worlds import world_events

VARIANTS = [(name, variant) for name, events in SCENARIOS.items() for variant in (*expand(events), *teardowns(events))]


def unnumbered(intents: dict[HostId, Intent]) -> dict[HostId, Intent]:
    return {host: msgspec.structs.replace(intent, revision=0, version=0) for host, intent in intents.items()}


def follow(batches: Iterable[Sequence[Event]]) -> Compiler:
    """Fold and compile event by event, and check at every step that what moved was said to have moved."""
    snapshot = Snapshot()
    compiler = Compiler(snapshot)
    for batch in batches:
        before = unnumbered(compiler.intents())
        workloads, hosts = set(), set()
        for event in batch:
            some, others = affected(event, snapshot)
            workloads |= some
            hosts |= others
            snapshot = apply(snapshot, event)
        moved = compiler.update(snapshot, workloads, hosts)
        after = unnumbered(compiler.intents())
        changed = {host for host in {*before, *after} if content(before.get(host)) != content(after.get(host))}
        assert changed <= moved
    return compiler


def content(intent: Intent | None) -> Intent | None:
    return msgspec.structs.replace(intent, fingerprint="") if intent else None


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[f"{name}: {v.name}" for name, v in VARIANTS])
def test_incremental_equals_full(name: str, variant: object) -> None:
    compiler = follow(variant.batches)
    assert unnumbered(compiler.intents()) == unnumbered(compile_snapshot(compiler.snapshot))


@pytest.mark.parametrize("seed", range(40))
def test_incremental_equals_full_in_random_worlds(seed: int) -> None:
    events = world_events(seed)
    random = Random(seed)
    later = [event for other in range(3) for event in world_events(1000 + seed * 3 + other)]
    random.shuffle(later)
    compiler = follow([events, *([event] for event in later[:25])])
    assert unnumbered(compiler.intents()) == unnumbered(compile_snapshot(compiler.snapshot))


def test_labels_of_a_workload_that_only_its_host_meets_move_the_host() -> None:
    here, there = WorkloadId("here"), WorkloadId("there")
    apart = Endpoint(Attachment.OPAQUE, (Address("10.9.0.2"),), realm=Realm("a/macvlan"))
    beside = Endpoint(Attachment.ROUTED, (Address("10.9.1.2"),), "veth1")
    allow = Rule(RuleId("shop/rule"), Action.ALLOW, Selected(Equal("app", "web")), Selected(Equal("app", "db")))
    compiler = follow(
        [event]
        for event in (
            HostSeen(Host(HostId("a"), WorkloadId("host:a"))),
            PolicyActivated(Version(1), complete(PolicySet(policies=(Policy("shop", (allow,)),)))),
            WorkloadSeen(Sighting(here, "here", WorkloadKind.CONTAINER, HostId("a"), endpoints=(beside,))),
            WorkloadSeen(Sighting(there, "there", WorkloadKind.CONTAINER, HostId("a"), endpoints=(apart,))),
            LabelsSet(here, (("app", "web"),), "ann"),
            LabelsSet(there, (("app", "cache"),), "ann"),
            LabelsSet(there, (("app", "db"),), "ann"),
        )
    )
    (peers,) = compiler.intent(HostId("a")).peers
    assert peers.addresses == ("10.9.0.2",)


def test_the_key_moves_fingerprints_and_nothing_else() -> None:
    snapshot = follow([world_events(1)]).snapshot
    plain, keyed = compile_snapshot(snapshot), compile_snapshot(snapshot, key=b"secret")
    assert {host: content(intent) for host, intent in plain.items()} == {h: content(i) for h, i in keyed.items()}
    assert all(plain[host].fingerprint != keyed[host].fingerprint for host in plain)
