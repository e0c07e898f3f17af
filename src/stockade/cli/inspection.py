"""What the agent looks at besides its own tables: put together from the adapters that each see a part.

A part that cannot be read is *not assessed* and says why; no part that fails takes another with it.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from stockade.adapters.bpf import Programs
from stockade.adapters.netlink.namespace import Namespace, inside
from stockade.adapters.netlink.surroundings import LinkWords, Moves, Surroundings, switches, tracked
from stockade.adapters.nft.foreign import ForeignTables
from stockade.adapters.nft.netlink import RulesetMoves
from stockade.adapters.own_files import own_files
from stockade.adapters.xtables import legacy_tables, unlisted_tables
from stockade.core.posture.host import Facts, FileSeen, Program, Unread
from stockade.seams.inspection import Watch

FILES_EVERY = 4.0
"""Seconds between looks at our files: there are hundreds, and nobody tells of changes to them."""
HOOKS = Unread(
    "the hooks of this network namespace are not listed: a module or program of higher priority would go unseen",
    "nft list hooks, where the kernel can (CONFIG_NETFILTER_NETLINK_HOOK)",
)
AS_ROOT = "run it as root, with CAP_NET_ADMIN and CAP_SYS_ADMIN"
Part = TypeVar("Part")


class HostInspection:
    """Implements ``seams.inspection.Inspection`` for this host, or for the one whose network namespace is given."""

    def __init__(self, state: Path, socket: Path, namespace: Namespace | None = None) -> None:
        self._state, self._socket = state, socket
        self._namespace = namespace
        self._tables = ForeignTables()
        self._programs = Programs()
        self._files: tuple[FileSeen, ...] | Unread = ()
        self._files_at = float("-inf")

    def look(self) -> Facts:
        """Collect everything."""
        return inside(self._namespace, self._look)

    def watches(self) -> Sequence[Watch]:
        """Listen for changes of anybody's tables, and of links, routes, rules and traffic control."""
        return (inside(self._namespace, RulesetMoves), Moves(self._namespace))

    def _look(self) -> Facts:
        around = Surroundings()
        try:
            links = _read(around.links)
            names = () if isinstance(links, Unread) else links.names
            return Facts(
                tables=_read(self._tables.read),
                legacy=_read(legacy_tables),
                unlisted=unlisted_tables(),
                traffic=_read(lambda: around.traffic(names)),
                programs=self._running(links),
                rules=_read(around.rules),
                local=_read(around.local_routes),
                ports=links if isinstance(links, Unread) else links.ports,
                bridges=links if isinstance(links, Unread) else links.bridges,
                switches=_read(switches),
                tracked=_read(tracked),
                hooks=HOOKS,
                files=self._own(),
            )
        finally:
            around.close()

    def _running(self, links: LinkWords | Unread) -> tuple[Program, ...] | Unread:
        if isinstance(links, Unread):
            return links

        def listed() -> tuple[Program, ...]:
            found = [*self._programs.between_sockets(), *self._programs.at_netfilter()]
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


def _read(part: Callable[[], Part]) -> Part | Unread:
    try:
        return part()
    except OSError as problem:
        return Unread(f"{problem.strerror or problem}", AS_ROOT)
