"""What hosts say is wrong with them: kept as it is now, and in the audit log as it came and went.

What was open when an earlier controller ended is read back from the log, so that nothing is raised twice.
"""

from collections.abc import Iterable, Iterator

from stockade.core.model.finding import Finding
from stockade.core.model.ids import HostId
from stockade.seams.store import Entry, NumberedEntry
from stockade.wire import Findings

RAISED, CLEARED = "raise", "clear"
EVERYWHERE = HostId("*")
"""Whose findings are of traffic, wherever it was seen: no host's name."""
REMEMBERED = 10_000
"""Audit entries that are looked through for what is still open."""


class FindingBoard:
    """The last word of each host. No I/O: what is to be logged is returned."""

    def __init__(self) -> None:
        self.by_host: dict[HostId, Findings] = {}
        self._open: dict[str, str] = {}
        """What is open by the log: target, and the detail of its last entry."""

    def remember(self, newest_first: Iterable[NumberedEntry]) -> None:
        """Take what the log says is still open."""
        said: dict[str, Entry] = {}
        for each in newest_first:
            if each.entry.action in (RAISED, CLEARED):
                said.setdefault(each.entry.target, each.entry)
        self._open = {target: entry.detail for target, entry in said.items() if entry.action == RAISED}

    def entries(self, said: Findings, who: str) -> tuple[Entry, ...]:
        """Return what a host's word adds to the log; nothing is taken yet."""
        return tuple(self._entries(said, who))

    def take(self, said: Findings) -> None:
        """Take a host's word, once it is logged."""
        targets = {_target(said.host, each): _detail(each) for each in said.findings}
        others = {target: detail for target, detail in self._open.items() if not _of(target, said.host)}
        self._open = others | targets
        self.by_host[said.host] = said

    def forget(self, hosts: Iterable[HostId]) -> None:
        """Hosts are no more."""
        for host in hosts:
            self.by_host.pop(host, None)

    def _entries(self, said: Findings, who: str) -> Iterator[Entry]:
        known = {target: detail for target, detail in self._open.items() if _of(target, said.host)}
        for each in said.passed:
            target = _target(said.host, each)
            if known.pop(target, None) is None:
                yield Entry(who, RAISED, target, each.severity.value, _detail(each))
            yield Entry(who, CLEARED, target, detail=_detail(each))
        now = {_target(said.host, each): each for each in said.findings}
        before = self.by_host.get(said.host)
        last = {_target(said.host, each): _detail(each) for each in before.findings} if before else {}
        for target in sorted(known.keys() - now.keys()):
            yield Entry(who, CLEARED, target, detail=last.get(target, known[target]))
        for target, each in now.items():
            if target not in known:
                yield Entry(who, RAISED, target, each.severity.value, _detail(each))


def _target(host: HostId, finding: Finding) -> str:
    return f"{host}: {finding.check}: {finding.object}"


def _of(target: str, host: HostId) -> bool:
    return target.startswith(f"{host}: ")


def _detail(finding: Finding) -> str:
    return finding.seen
