"""What goes on although one of its ends is a stranger by now, and what a stranger gains by it: nothing that begins.

On the ground of the random worlds, with its container engine's doors and proxies.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace
from plain_tables import IN_BRIDGES

from stockade.core.fold import fold
from stockade.core.model.event import Event, HostSeen, LabelsSet, PolicyActivated, WorkloadSeen
from stockade.core.model.ids import RuleId, Version, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Sighting, WorkloadKind
from stockade.core.model.net import Protocol
from stockade.core.model.policy import (
    Action,
    Births,
    EnforcementMode,
    Mode,
    Policy,
    PolicySet,
    Quarantine,
    Rule,
    Selected,
)
from stockade.core.model.selector import Equal, In
from stockade.core.model.snapshot import Snapshot
from stockade.core.policy import complete
from stockade.testing.kernel_worlds.ground import Ground, topology
from stockade.testing.lab import enter, workload_id
from stockade.testing.probe import packets
from stockade.testing.probe.values import Flow, Outcome, Probe

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
TCP, UDP = Protocol.TCP, Protocol.UDP
ROLES = ("web-1", "api-1", "db-1", "cache", "batch", "vm-1")
PASSING = EnforcementMode("births", Equal("role", "lab"), Mode.VISIBILITY, births=Births.PASS)
QUIET = 0.5


def full(*roles: str) -> EnforcementMode:
    return EnforcementMode("shop", In("role", tuple(sorted(roles))), Mode.FULL, 10)


def allow(*sources: str, keep: bool = False) -> PolicySet:
    """Policy under which these may reach web-1."""
    to_web = Selected(In("role", tuple(sorted(sources)))), Selected(Equal("role", "web-1"))
    return PolicySet(policies=(Policy("shop", (Rule(RuleId("shop/way"), Action.ALLOW, *to_web, (), keep),)),))


def world(ground: Ground, policy: PolicySet, *modes: EnforcementMode, unlabelled: tuple[str, ...] = (),
          rival: bool = False) -> Snapshot:  # fmt: skip
    """Make a world in which everybody has its name for a role. ``rival``: somebody else claims the host's addresses."""
    lab = ground.lab
    events: list[Event] = [HostSeen(lab.host(published=ground.published()))]
    events += [WorkloadSeen(each) for each in lab.sightings()]
    if rival:
        taken = tuple(address for each in lab.sighting(lab.host_name).endpoints for address in each.addresses)
        claim = Endpoint(Attachment.REMOTE, taken)
        events.append(
            WorkloadSeen(Sighting(WorkloadId("unmanaged:rival"), "rival", WorkloadKind.UNMANAGED, endpoints=(claim,)))
        )
    for name in (*ROLES, lab.host_name):
        if name not in unlabelled:
            events.append(LabelsSet(workload_id(lab.topology, name), (("role", name),), "operator"))
    chosen = tuple(sorted((PASSING, *modes), key=lambda each: each.name))
    return fold([*events, PolicyActivated(Version(1), complete(replace(policy, modes=chosen)))])


def on_the_ground(scenario: Callable[[Ground], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Ground(topology(bridge_nf=not IN_BRIDGES)) as ground:
            for door in ground.doors:
                await ground.lab.listen(door.to, door.protocol, door.to_port)
            await scenario(ground)

    enter()
    asyncio.run(run())


def door(ground: Ground, source: str, protocol: Protocol, port: int, family: int, address: str = "") -> Probe:
    """Ask at a port of the host that leads to web-1."""
    at = address or ground.lab.address(ground.lab.host_name, family)
    return Probe(source, "web-1", protocol, port, family, at)


def ways(ground: Ground, family: int) -> list[Probe]:
    """From neighbours on the bridge and beside it: straight, by translation and by a proxy."""
    straight = [Probe(name, "web-1", each, 80, family) for name in ("api-1", "vm-1") for each in (TCP, UDP)]
    translated = [door(ground, "vm-1", UDP, 18054, family)]
    if not IN_BRIDGES:  # there the host does not see the answers of neighbours, to translate them back
        translated.append(door(ground, "api-1", TCP, 18443, family))
    return [*straight, *translated, door(ground, "api-1", TCP, 18080, family)]


async def opened(ground: Ground, probes: list[Probe]) -> list[Flow]:
    await ground.listen_for(probes)
    flows = await ground.lab.open(probes, listen=False)
    assert all(each.opened is Outcome.REACHED for each in flows), flows
    return flows


@pytest.mark.parametrize("family", [4, 6])
def test_what_a_rule_keeps_goes_on_when_its_sender_loses_its_labels(family: int) -> None:
    async def scenario(ground: Ground) -> None:
        policy, enforcing = allow("api-1", "vm-1", keep=True), full("web-1", "api-1", "vm-1")
        ground.apply(world(ground, policy, enforcing))
        flows = await opened(ground, ways(ground, family))
        ground.apply(world(ground, policy, enforcing, unlabelled=("api-1", "vm-1")))
        assert all(each.alive for each in await ground.lab.send(flows))
        *others, by_proxy = flows  # whose other end is the proxy
        for heard in await ground.lab.send(others, back=True):
            assert heard.alive, heard
        assert (await ground.lab.send([by_proxy]))[0].alive
        for result in await ground.lab.probe(ways(ground, family), patience=QUIET, listen=False):
            assert not result.delivered, result
            assert not result.reached, result
        ground.apply(world(ground, policy, enforcing))
        again = await opened(ground, ways(ground, family))
        cut = replace(policy, quarantines=(Quarantine("web", Equal("role", "web-1")),))
        ground.apply(world(ground, cut, enforcing, unlabelled=("api-1", "vm-1")))
        for heard in await ground.lab.send([*flows, *again], patience=QUIET):
            assert not heard.alive, heard

    on_the_ground(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_what_no_rule_keeps_ends_then(family: int) -> None:
    async def scenario(ground: Ground) -> None:
        policy, enforcing = allow("api-1", "vm-1"), full("web-1", "api-1", "vm-1")
        ground.apply(world(ground, policy, enforcing))
        flows = await opened(ground, ways(ground, family))
        ground.apply(world(ground, policy, enforcing, unlabelled=("api-1", "vm-1")))
        for heard in await ground.lab.send(flows, patience=QUIET):
            assert not heard.delivered, heard
            assert not heard.alive, heard

    on_the_ground(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_else_speaks_along_what_is_kept(family: int) -> None:
    """api-1 and batch have no labels; cache has, and is in no enforcing mode. Each says that it is api-1."""

    async def scenario(ground: Ground) -> None:
        lab, policy, enforcing = ground.lab, allow("api-1", keep=True), full("web-1")
        ground.apply(world(ground, policy, enforcing))
        (flow,) = await opened(ground, [Probe("api-1", "web-1", UDP, 80, family)])
        ground.apply(world(ground, policy, enforcing, unlabelled=("api-1", "batch")))
        assert all(each.alive for each in await lab.send([flow]))
        ends = lab.address("api-1", family), lab.address("web-1", family)
        for sender, mac in (("api-1", ""), ("batch", ""), ("cache", ""), ("batch", "api-1"), ("cache", "api-1")):
            nonce = lab.nonce()
            said = packets.ip(*ends, packets.UDP, packets.udp(*ends, flow.source_port, 80, nonce.encode()))
            frame = lab.frame(sender, said, mac=lab.plugs(mac)[0].mac if mac else "")
            assert await lab.inject(sender, [frame]) == [0]
            assert bool(await lab.seen("web-1", nonce)) == (sender == "api-1"), (sender, mac)

    on_the_ground(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_proxies_go_on_when_somebody_else_claims_the_host_s_addresses(family: int) -> None:
    """What the claimant gains: nothing, and nor does the host by its other ways."""

    async def scenario(ground: Ground) -> None:
        lab = ground.lab
        host, own = lab.host_name, lab.address(lab.host_name, family)
        ground.apply(world(ground, allow("db-1", host), full("web-1"), rival=True))
        straight = [Probe(host, "web-1", TCP, 8080, family), Probe(host, "web-1", UDP, 53, family)]
        translated = [door(ground, host, UDP, 18053, family), door(ground, host, TCP, 18080, family)]
        for result in await lab.probe([*straight, *translated], patience=QUIET, listen=False):
            assert not result.delivered, result
        for each in (door(ground, "cache", TCP, 18080, family), door(ground, "cache", UDP, 18053, family)):
            (result,) = await lab.probe([each], patience=QUIET, listen=False)
            assert not result.reached, result
        loopback = "::1" if family == 6 else "127.0.0.1"
        allowed = [door(ground, "db-1", each, port, family) for each, port in ((TCP, 18080), (UDP, 18053))]
        allowed.append(door(ground, host, UDP, 18053, family, loopback))
        for result in await lab.probe(allowed, listen=False):
            assert result.reached, result
        # While the proxy may open second legs.
        for result in await lab.probe(translated, patience=QUIET, listen=False):
            assert not result.delivered, result
        for claimed in (own, "fd00:1::1" if family == 6 else "10.1.0.1"):
            nonce, web = lab.nonce(), lab.address("web-1", family)
            said = packets.ip(claimed, web, packets.UDP, packets.udp(claimed, web, 7000, 53, nonce.encode()))
            assert await lab.inject("far", [lab.frame("far", said)]) == [0]
            assert not await lab.seen("web-1", nonce), claimed

    on_the_ground(scenario)


@pytest.mark.parametrize("family", [4, 6])
def test_a_proxy_reaches_a_workload_without_labels_though_its_host_refuses_strangers(family: int) -> None:
    async def scenario(ground: Ground) -> None:
        host = ground.lab.host_name
        to_itself = [Probe("web-1", host, each, 9000, family) for each in (TCP, UDP)]
        ground.apply(world(ground, allow(host), full(host), unlabelled=("web-1",)))
        by_proxy = [door(ground, "db-1", TCP, 18080, family), door(ground, "db-1", UDP, 18053, family)]
        for result in await ground.lab.probe(by_proxy, listen=False):
            assert result.reached, result
        for rival in (False, True):
            ground.apply(world(ground, allow(host), full(host), unlabelled=("web-1",), rival=rival))
            for result in await ground.lab.probe(to_itself, patience=QUIET):
                assert not result.delivered, (rival, result)

    on_the_ground(scenario)
