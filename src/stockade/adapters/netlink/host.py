"""This host, looked at again whenever its links or addresses change: itself, its bridges, the ports nobody claimed.

A change is only ever a reason to look again, so that what is yielded never depends on the order of the kernel's words.
"""

import asyncio
import ipaddress
import platform
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from stockade.adapters.netlink.facts import Passing, host_facts, is_own, read_passing
from stockade.adapters.netlink.values import LinkGone, LinkSeen, LinksListed
from stockade.adapters.netlink.watch import LinkWatch
from stockade.core.model.ids import Address, HostId, Realm, WorkloadId
from stockade.core.model.inventory import Attachment, Bridge, Endpoint, Facts, Host, Sighting, WorkloadKind

SETTLE = 0.005
"""Seconds to wait after a change for the ones that come with it."""
CALM = 0.2
"""Seconds for which a port that nobody knows yet may be somebody's who is just being born: nothing depends on it."""
LOOK_ANYWAY = 5.0
"""Seconds between looks when nothing was told, and between those at SSH sessions, which come and go without a word."""


class HostWatch:
    """Looks at this network namespace. ``uplinks`` are veths that lead outside and not to a workload."""

    def __init__(
        self, host: HostId, *, uplinks: Iterable[str] = (), heard: Callable[[str], None] = lambda _: None
    ) -> None:
        """``heard`` is called with the name of each link that appeared, changed or went."""
        self._host = host
        self._uplinks = frozenset(uplinks)
        self._heard = heard
        self._watch: LinkWatch | None = None
        self._described: Described | None = None
        self._connected_at = -LOOK_ANYWAY
        """When it was last looked who is connected by SSH, by the monotonic clock."""

    @property
    def lost(self) -> int:
        """How often the kernel had to drop messages; each time everything was listed again."""
        return self._watch.lost if self._watch else 0

    @property
    def links(self) -> LinksListed | None:
        """The links as they are now, on the running loop; None where they are not followed, or were not listed yet."""
        return self._watch.now if self._watch and self._described else None

    async def looks(
        self, bridges: Callable[[], tuple[Bridge, ...]], moved: asyncio.Event
    ) -> AsyncIterator[tuple[Host, Sighting]]:
        """Yield the host and itself as a workload whenever they are not what they were; the first time at once.

        ``bridges`` is what container engines know of theirs; ``moved`` is set when that has changed.
        """
        self._watch = LinkWatch()
        listed = asyncio.Event()
        follower = asyncio.create_task(_follow(self._watch, moved, listed, self._heard))
        clock = asyncio.get_running_loop().time
        last: tuple[Host, Sighting] | None = None
        strange_since: float | None = None
        try:
            await _either(listed, follower, None)
            while True:
                moved.clear()
                look = await asyncio.to_thread(self._look, bridges(), self._watch.now)
                if last is None or not _only_strangers(look, last):
                    strange_since = None
                elif strange_since is None:
                    strange_since = clock()
                if look != last and (strange_since is None or clock() - strange_since >= CALM):
                    last, strange_since = look, None
                    yield look
                due = max(self._connected_at + LOOK_ANYWAY - time.monotonic(), 0.0)
                await _changed(moved, follower, due if strange_since is None else min(CALM, due))
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
            self._watch.close()

    def _look(self, bridges: tuple[Bridge, ...], links: LinksListed) -> tuple[Host, Sighting]:
        """Describe the host, unless everything is as it was."""
        last, now = self._described, time.monotonic()
        known = last.passing.sessions if last and now - self._connected_at < LOOK_ANYWAY else None
        passing = read_passing(sessions=known)
        if known is None:
            self._connected_at = now
        if last is None or last.links is not links or (last.bridges, last.passing) != (bridges, passing):
            look = describe(self._host, bridges, self._uplinks, links, passing)
            last = self._described = Described(links, bridges, passing, look)
        return last.look


class Described(NamedTuple):
    """A look, and what it was made of."""

    links: LinksListed
    bridges: tuple[Bridge, ...]
    passing: Passing
    look: tuple[Host, Sighting]


def describe(
    host: HostId,
    known: Iterable[Bridge] = (),
    uplinks: frozenset[str] = frozenset(),
    links: LinksListed | None = None,
    passing: Passing | None = None,
) -> tuple[Host, Sighting]:
    """Look once; at these links and at what was read, or at what there is now."""
    workload = WorkloadId(f"host:{host}")
    facts = host_facts(host, workload, uplinks=uplinks, links=links, passing=passing)
    engines = {bridge.name: bridge for bridge in known}
    described = replace(
        facts.host,
        bridges=tuple(_completed(host, bridge, engines.get(bridge.name)) for bridge in facts.host.bridges),
        unknown=tuple(_strangers(facts.links, uplinks)),
    )
    return described, _itself(host, workload, facts.links, uplinks)


def _only_strangers(look: tuple[Host, Sighting], last: tuple[Host, Sighting]) -> bool:
    """Tell whether two looks differ in the ports that nobody knows, and in nothing else."""
    (host, itself), (was, _) = look, last
    return host.unknown != was.unknown and (replace(host, unknown=was.unknown), itself) == last


async def _follow(watch: LinkWatch, moved: asyncio.Event, listed: asyncio.Event, heard: Callable[[str], None]) -> None:
    async for event in watch.events():
        moved.set()
        if isinstance(event, LinksListed):
            listed.set()
        if isinstance(event, LinkSeen | LinkGone):
            heard(event.name)


async def _either(event: asyncio.Event, follower: "asyncio.Task[None]", timeout: float | None) -> None:
    """Wait for an event, or a while. A follower that failed is not passed over."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait((waiting, follower), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if follower.done():
        follower.result()


async def _changed(moved: asyncio.Event, follower: "asyncio.Task[None]", timeout: float) -> None:
    """Wait for a change and for what comes with it, or a while."""
    await _either(moved, follower, timeout)
    if moved.is_set():
        await asyncio.sleep(SETTLE)


def _completed(host: HostId, bridge: Bridge, known: Bridge | None) -> Bridge:
    """Add what an engine knows: the subnets it hands addresses out of, and its name for the realm."""
    handed = known.subnets if known else ()
    realm = known.realm if known else Realm(f"{host}/{bridge.name}")
    return replace(bridge, realm=realm, subnets=tuple(sorted({*bridge.subnets, *handed})))


def _strangers(links: LinksListed, uplinks: frozenset[str]) -> Iterable[Endpoint]:
    """Yield the ports that somebody may have: whoever knows them takes them off this list."""
    for link in sorted(links.links, key=lambda each: each.name):
        if not is_own(link, uplinks):
            bridge = links.link(link.master)
            attachment = Attachment.BRIDGED if bridge else Attachment.ROUTED
            yield Endpoint(attachment, (), link.name, bridge.name if bridge else "")


def _itself(host: HostId, workload: WorkloadId, links: LinksListed, uplinks: frozenset[str]) -> Sighting:
    """A bridge's address and a link's own mean this host here and nowhere else; the others mean it everywhere."""
    realms: dict[Realm, set[Address]] = {}
    for link in links.links:
        if is_own(link, uplinks):
            for address in links.of(link.index).bare:
                realms.setdefault(_realm(host, link, address), set()).add(address)
    endpoints = tuple(Endpoint(Attachment.HOST, tuple(sorted(realms[each])), realm=each) for each in sorted(realms))
    facts = Facts(runtime="host", host_name=platform.node(), labels=_system())
    return Sighting(workload, host, WorkloadKind.HOST, host, endpoints=endpoints, facts=facts)


def _realm(host: HostId, link: LinkSeen, address: Address) -> Realm:
    parsed = ipaddress.ip_address(address)
    local = link.kind == "bridge" or parsed.is_loopback or parsed.is_link_local
    return Realm(f"{host}/{link.name}") if local else Realm("")


def _system(read: Callable[[], Mapping[str, str]] = platform.freedesktop_os_release) -> tuple[tuple[str, str], ...]:
    """What os-release says (``os-release(5)``), for label rules."""
    try:
        told = read()
    except OSError:
        told = {}
    pairs = {"os.id": told.get("ID", ""), "os.version": told.get("VERSION_ID", ""), "os.kernel": platform.release()}
    return tuple(sorted((key, value) for key, value in pairs.items() if value))
