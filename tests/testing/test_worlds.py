"""What the random worlds are worth: they replay, they deny enough, and every layer has its say."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from stockade.core.fold import fold
from stockade.core.model.inventory import Attachment, WorkloadState
from stockade.core.model.packet import Layer, PacketState
from stockade.core.model.policy import Births, Mode
from stockade.core.oracle import births, mode, verdict
from stockade.testing import strategies
from stockade.testing.inventories import HOST_A, HOST_B
from stockade.testing.worlds import packets, world, world_events

MANY = 500


def test_a_seed_replays() -> None:
    assert world_events(7) == world_events(7)
    assert world(7) == fold(world_events(7))
    assert packets(world(7), 1, 20) == packets(world(7), 1, 20)
    assert world(7) != world(8)


@pytest.mark.long
def test_every_layer_decides_somewhere_and_two_in_five_packets_are_denied() -> None:
    layers: Counter[Layer] = Counter()
    verdicts = [
        verdict(snapshot, packet)
        for seed in range(MANY)
        for snapshot in (world(seed),)
        for packet in packets(snapshot, seed, 5)
    ]
    for each in verdicts:
        layers.update(end.layer for end in each.ends)
    assert set(layers) == set(Layer)
    assert min(layers.values()) >= 20, layers
    assert sum(not each.allowed for each in verdicts) >= 0.4 * len(verdicts)
    assert sum(each.allowed for each in verdicts) >= 0.3 * len(verdicts)


def test_every_state_and_both_families_occur() -> None:
    made = [packet for seed in range(100) for packet in packets(world(seed), seed, 5)]
    assert {packet.state for packet in made} == set(PacketState)
    assert {":" in packet.source for packet in made} == {True, False}
    assert {packet.kept for packet in made} == {packet.older for packet in made} == {True, False}
    assert all((":" in packet.source) == (":" in packet.destination) for packet in made)


def test_every_oddity_of_an_inventory_occurs() -> None:
    seen: Counter[str] = Counter()
    for seed in range(200):
        snapshot = world(seed)
        workloads = list(snapshot.workloads.values())
        seen.update(endpoint.attachment.value for each in workloads for endpoint in each.seen.endpoints)
        seen.update(each.seen.state.value for each in workloads)
        seen["shared"] += any(each.seen.owner for each in workloads)
        seen["unlabelled"] += any(not each.known for each in workloads)
        seen["conflict of labels"] += any(each.conflicts for each in workloads)
        seen["two endpoints"] += any(len(each.seen.endpoints) > 1 for each in workloads)
        seen["unknown link"] += bool(snapshot.hosts[HOST_A].unknown)
        seen["published"] += bool(snapshot.hosts[HOST_A].published)
        seen["second host"] += HOST_B in snapshot.hosts
        seen["lapsed"] += bool(snapshot.lapsed)
        seen.update(mode(snapshot, each).value for each in workloads)
        seen[births(snapshot, HOST_A).value] += 1
    expected = {*(each.value for each in Attachment), WorkloadState.STOPPED.value, *(each.value for each in Mode)}
    expected |= {*(each.value for each in Births), "shared", "unlabelled", "conflict of labels", "two endpoints"}
    expected |= {"unknown link", "published", "second host", "lapsed"}
    assert {each for each in expected if not seen[each]} == set()


@pytest.mark.long
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(strategies.situations())
def test_hypothesis_finds_the_same_worlds(situation: tuple) -> None:
    snapshot, made = situation
    for packet in made:
        said = verdict(snapshot, packet)
        assert said.allowed == all(end.allowed for end in said.ends)
        assert {end.workload for end in said.ends} <= {*snapshot.workloads, None}


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(strategies.policy_sets(), strategies.labels(), strategies.selectors())
def test_policy_is_complete_and_refers_to_what_exists(policy: object, labels: object, selector: object) -> None:
    services, sets = {each.name for each in policy.services}, {each.name for each in policy.network_sets}
    for rule in (rule for each in policy.policies for rule in each.rules):
        assert {ref for ref in rule.on if isinstance(ref, str)} <= services
        assert {name for end in (rule.source, rule.destination) for name in getattr(end, "names", ())} <= sets
    assert policy.modes[0].name == "default"
    assert [label.key for label in labels.items] == sorted({label.key for label in labels.items})
