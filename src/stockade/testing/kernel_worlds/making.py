"""A random world on a ground: who was reported and how, with which labels and in which modes, and which policy.

The same seed makes the same world of the same ground. Modes are dealt so that ends in every pair of modes are near each
other; consecutive seeds give the host each mode in turn. Some facts are wrong on purpose: a workload that nobody
labelled or reported, an address that two claim, one that was not reported. Of the machines outside some are reported,
some are declared by documents, some are nobody's.
"""

from collections.abc import Iterator
from random import Random

from msgspec.structs import replace

from stockade.core.fold import fold
from stockade.core.model.event import Event, HostSeen, LabelsSet, PolicyActivated, QuarantineLapsed, WorkloadSeen
from stockade.core.model.ids import DECLARED, Address, Version, WorkloadId
from stockade.core.model.inventory import (
    Attachment,
    Endpoint,
    Failsafe,
    Host,
    Sighting,
    WorkloadKind,
)
from stockade.core.model.net import Protocol
from stockade.core.model.policy import Births, EnforcementMode, Mode, PolicySet, UnmanagedWorkload
from stockade.core.model.selector import ALL, Equal, In
from stockade.core.model.snapshot import Snapshot
from stockade.testing import policies
from stockade.testing.inventories import DIMENSIONS, chance
from stockade.testing.kernel_worlds.ground import ON_BACK, ON_FRONT, OUTSIDE, RESOLVERS, ROUTED, TWIN, Ground
from stockade.testing.lab import workload_id

OPERATOR = "operator"


def make(ground: Ground, seed: int) -> Snapshot:
    """Make the world of a seed as the ground is now."""
    random = Random(seed)
    declared = tuple(name for name in OUTSIDE if chance(random, 0.35))
    return fold([*_inventory(ground, random, declared), *_policy(ground, random, seed, declared)])


def _inventory(ground: Ground, random: Random, declared: tuple[str, ...]) -> Iterator[Event]:
    host = replace(ground.lab.host(published=ground.published()), resolvers=tuple(Address(each) for each in RESOLVERS))
    reported: list[Sighting] = []
    for sighting in ground.lab.sightings():
        host, kept = _odd(random, host, sighting)
        reported += kept
    outside = [ground.lab.sighting(name) for name in OUTSIDE if name not in declared and chance(random, 0.75)]
    reported += [replace(each, kind=WorkloadKind.UNMANAGED) for each in outside]
    if chance(random, 0.15):
        reported.append(_rival(random, reported))
    yield HostSeen(_with_failsafe(ground, random, host))
    for each in reported:
        yield WorkloadSeen(each)
        known = chance(random, 0.96 if each.id == host.workload else 0.93)
        if known:
            yield LabelsSet(each.id, _labels(random), OPERATOR)


def _odd(random: Random, host: Host, sighting: Sighting) -> tuple[Host, list[Sighting]]:
    """Report a workload, mostly as it is."""
    if sighting.id == host.workload:
        return host, [sighting]
    odd = random.random()
    endpoint = sighting.endpoints[0]
    if odd > 0.97:
        return replace(host, unknown=tuple(sorted((*host.unknown, *sighting.endpoints), key=_port))), []
    if odd > 0.95:
        bare = tuple(replace(each, addresses=()) for each in sighting.endpoints)
        return replace(host, unknown=tuple(sorted((*host.unknown, *bare), key=_port))), []
    if odd > 0.935:
        return host, []
    if odd > 0.91 and len(sighting.endpoints) == 1:
        some = tuple(each for each in endpoint.addresses if (":" in each) == chance(random, 0.5))
        return host, [replace(sighting, endpoints=(replace(endpoint, addresses=some),))]
    return host, [sighting]


def _port(endpoint: Endpoint) -> str:
    return endpoint.port


def _rival(random: Random, reported: list[Sighting]) -> Sighting:
    """Somebody else who says that an address is its own."""
    able = [each for each in reported if each.endpoints[0].addresses and not each.endpoints[0].realm]
    taken = random.choice(random.choice(able).endpoints).addresses
    some = tuple(each for each in taken if chance(random, 0.5)) or taken
    endpoint = Endpoint(Attachment.REMOTE, some[:2])
    return Sighting(WorkloadId("unmanaged:rival"), "rival", WorkloadKind.UNMANAGED, endpoints=(endpoint,))


def _with_failsafe(ground: Ground, random: Random, host: Host) -> Host:
    if not chance(random, 0.25):
        return host
    who = random.choice((*OUTSIDE, *ON_FRONT, *ROUTED))
    sources = [Address(ground.lab.address(who, family)) for family in (4, 6)]
    return replace(host, failsafe=tuple(sorted(Failsafe(each, Protocol.TCP, 22) for each in sources)))


def _labels(random: Random) -> tuple[tuple[str, str], ...]:
    keys = [key for key in DIMENSIONS if chance(random, 0.7)] or ["app"]
    return tuple((key, random.choice(DIMENSIONS[key][:3])) for key in sorted(keys))


# Policy


def _policy(ground: Ground, random: Random, seed: int, declared: tuple[str, ...]) -> Iterator[Event]:
    made = replace(policies.policy_set(random), workloads=tuple(_documents(ground, random, declared)))
    if chance(random, 0.85):
        made = replace(made, modes=_dealt_modes(ground, random, seed))
    if chance(random, 0.5):
        made = replace(made, quarantines=())
    yield PolicyActivated(Version(1), _with_births(ground, random, made))
    for each in made.quarantines:
        if chance(random, 0.2):
            yield QuarantineLapsed(each.name)


def _documents(ground: Ground, random: Random, declared: tuple[str, ...]) -> Iterator[UnmanagedWorkload]:
    """Declare machines outside by documents; sometimes one claims an address of somebody who is reported as well."""
    for name in sorted(declared):
        own = {address for each in ground.lab.sighting(name).endpoints for address in each.addresses}
        if chance(random, 0.2):
            other = ground.lab.sighting(random.choice((*ON_FRONT, *ROUTED)))
            own.add(random.choice(other.endpoints[0].addresses))
        labels = _labels(random) if chance(random, 0.93) else ()
        addresses = tuple(sorted(each for each in own if not each.startswith("fe80:")))
        yield UnmanagedWorkload(name, addresses, labels)


def _dealt_modes(ground: Ground, random: Random, seed: int) -> tuple[EnforcementMode, ...]:
    """Deal the modes out within each group of neighbours, so that each pair of modes is met often."""
    dealt: dict[str, Mode] = {ground.lab.host_name: list(Mode)[seed % 4], TWIN: random.choice(list(Mode))}
    for group in (ON_FRONT, ON_BACK, ROUTED, OUTSIDE):
        hand = [mode for _ in range(2) for mode in random.sample(list(Mode), 4)]
        dealt |= dict(zip(group, hand, strict=False))
    found = [
        EnforcementMode(
            f"dealt-{mode.value}", In("name", tuple(sorted(n for n, m in dealt.items() if m is mode))), mode
        )
        for mode in Mode
    ]
    return tuple(sorted((policies.DEFAULT, *found), key=lambda each: each.name))


def _with_births(ground: Ground, random: Random, made: PolicySet) -> PolicySet:
    """Half of all worlds say what becomes of births; the others leave it to what follows from their modes."""
    if not chance(random, 0.5):
        return made
    says = EnforcementMode(
        "births", ALL, Mode.VISIBILITY, priority=-100, births=random.choice((Births.PASS, Births.HOLD))
    )
    itself = Equal("name", ground.lab.host_name)
    modes = [*made.modes, replace(says, select=itself)]
    return replace(made, modes=tuple(sorted(modes, key=lambda each: each.name)))


def workload_of(ground: Ground, snapshot: Snapshot, name: str) -> WorkloadId | None:
    """Return the id of a node's workload, where it was reported or a document declares it."""
    ids = (workload_id(ground.lab.topology, name), WorkloadId(DECLARED + name))
    return next((each for each in ids if each in snapshot.workloads), None)
