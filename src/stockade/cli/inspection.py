"""What the agent looks at besides its own tables: put together from the adapters that each see a part.

A part that cannot be read is *not assessed* and says why; no part that fails takes another with it.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from stockade.adapters.bpf import Programs
from stockade.adapters.netlink.namespace import Namespace, inside
from stockade.adapters.netlink.surroundings import LinkWords, Moves, Surroundings, switches, tracked
from stockade.adapters.nft.foreign import ForeignTables
from stockade.adapters.nft.netlink import RulesetMoves
from stockade.adapters.own_files import own_files
from stockade.adapters.xtables import legacy_tables, unlisted_tables
from stockade.core.posture.host import (
    Facts,
    FileSeen,
    ForeignTable,
    LocalRoute,
    Program,
    RoutingRule,
    TrafficAct,
    Unread,
)
from stockade.seams.inspection import Watch

FILES_EVERY = 30.0
"""Seconds between looks at our files: there are hundreds, and nobody tells of changes to them."""
HOOKS = Unread(
    "the hooks of this network namespace are not listed: a module or program of higher priority would go unseen",
    "nft list hooks, where the kernel can (CONFIG_NETFILTER_NETLINK_HOOK)",
)
AS_ROOT = "run it as root, with CAP_NET_ADMIN and CAP_SYS_ADMIN"
Part = TypeVar("Part")


class Told(NamedTuple):
    """What watches tell of when it changes."""

    links: LinkWords | Unread
    tables: tuple[ForeignTable, ...] | Unread
    traffic: tuple[TrafficAct, ...] | Unread
    rules: tuple[RoutingRule, ...] | Unread
    local: tuple[LocalRoute, ...] | Unread


class HostInspection:
    """Implements ``seams.inspection.Inspection`` for this host, or for the one whose network namespace is given."""

    def __init__(self, state: Path, socket: Path, namespace: Namespace | None = None) -> None:
        self._state, self._socket = state, socket
        self._namespace = namespace
        self._tables = ForeignTables()
        self._programs = Programs()
        self._files: tuple[FileSeen, ...] | Unread = ()
        self._files_at = float("-inf")
        self._told: Told | None = None

    def look(self, *, stirred: bool = True) -> Facts:
        """Collect everything; what the watches tell of only where one of them has."""
        return inside(self._namespace, lambda: self._look(stirred=stirred))

    def watches(self) -> Sequence[Watch]:
        """Listen for changes of anybody's tables, and of links, routes, rules and traffic control."""
        return (inside(self._namespace, RulesetMoves), Moves(self._namespace))

    def _look(self, *, stirred: bool) -> Facts:
        told = self._told
        if stirred or told is None or self._untold(told):
            told = self._told = self._listed()
        links = told.links
        return Facts(
            tables=told.tables,
            legacy=_read(legacy_tables),
            unlisted=unlisted_tables(),
            traffic=told.traffic,
            programs=self._running(links),
            rules=told.rules,
            local=told.local,
            ports=links if isinstance(links, Unread) else links.ports,
            bridges=links if isinstance(links, Unread) else links.bridges,
            switches=_read(lambda: switches(_of_bridges(links))),
            tracked=_read(tracked),
            hooks=HOOKS,
            files=self._own(),
        )

    def _untold(self, told: Told) -> bool:
        """Tell whether something may have changed without a word: what failed, or a program at a link."""
        if any(isinstance(part, Unread) for part in told) or (isinstance(told.links, LinkWords) and told.links.xdp):
            return True
        try:
            return self._programs.for_links()
        except OSError:
            return False

    def _listed(self) -> Told:
        around = Surroundings()
        try:
            links = _read(around.links)
            names = () if isinstance(links, Unread) else links.names
            return Told(
                links,
                _read(self._tables.read),
                _read(lambda: around.traffic(names)),
                _read(around.rules),
                _read(around.local_routes),
            )
        finally:
            around.close()

    def _running(self, links: LinkWords | Unread) -> tuple[Program, ...] | Unread:
        if isinstance(links, Unread):
            return links

        def listed() -> tuple[Program, ...]:
            found = [*self._programs.between_sockets(), *self._programs.at_netfilter()]
            if self._programs.for_links():
                found += self._programs.at_links(links.names)
            found += [self._named(each) for each in links.xdp]
            return tuple(sorted(found, key=lambda each: (each.kind.value, each.link, each.id)))

        return _read(listed)

    def _named(self, program: Program) -> Program:
        return Program(program.kind, program.id, self._programs.name(program.id), program.link)

    def _own(self) -> tuple[FileSeen, ...] | Unread:
        now = time.monotonic()
        if now - self._files_at >= FILES_EVERY:
            self._files, self._files_at = _read(lambda: own_files(self._state, self._socket)), now
        return self._files


def _of_bridges(links: LinkWords | Unread) -> frozenset[str]:
    if isinstance(links, Unread):
        return frozenset()
    bridges = {each.name for each in links.bridges}
    return frozenset(port.name for port in links.ports if port.bridge in bridges)


def _read(part: Callable[[], Part]) -> Part | Unread:
    try:
        return part()
    except OSError as problem:
        return Unread(f"{problem.strerror or problem}", AS_ROOT)
