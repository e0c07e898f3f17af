"""What hosts say is wrong with them: kept as it is now, and in the audit log as it came and went.

What was open when an earlier controller ended is read back from the log, so that nothing is raised twice. Beside it
stands what somebody accepts, for as long as it is the same that is found.
"""

from collections.abc import Iterable, Iterator, Mapping

from stockade.core.model.finding import Finding, Waiver, finding_id
from stockade.core.model.ids import FindingId, HostId
from stockade.seams.store import Entry, NumberedEntry
from stockade.wire import Findings

RAISED, CLEARED = "raise", "clear"
ACCEPTED, REOPENED = "accept", "reopen"
EVERYWHERE = HostId("*")
"""Whose findings are of traffic, wherever it was seen: no host's name."""
REMEMBERED = 10_000
"""Audit entries that are looked through for what is still open."""


class FindingBoard:
    """The last word of each host. No I/O: what is to be logged is returned."""

    def __init__(self, accepted: Iterable[Waiver] = ()) -> None:
        self.by_host: dict[HostId, Findings] = {}
        self.accepted: Mapping[FindingId, Waiver] = {each.id: each for each in accepted}
        """What somebody accepts, whether it is found just now or not."""
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

    # What is accepted

    def accept(self, made: Waiver) -> None:
        """A finding is accepted, as it is logged."""
        self.accepted = {**self.accepted, made.id: made}

    def reopen(self, some: Iterable[Waiver]) -> None:
        """Some are accepted no more, as it is logged."""
        gone = {each.id for each in some}
        self.accepted = {id_: each for id_, each in self.accepted.items() if id_ not in gone}

    def lapsed(self, now: float) -> tuple[Waiver, ...]:
        """Return the waivers whose time is over."""
        return tuple(each for _, each in sorted(self.accepted.items()) if each.until is not None and each.until <= now)

    def outgrown(self, said: Findings) -> tuple[Waiver, ...]:
        """Return the waivers that no longer cover what a host says."""
        found = ((self.accepted.get(_id(said.host, each)), each) for each in said.findings)
        return tuple(known for known, each in found if known is not None and not known.covers(each))

    def find(self, id_: FindingId) -> tuple[HostId, Finding] | None:
        """Return what is found under an id; None where nothing is."""
        every = ((host, each) for host, said in self.by_host.items() for each in said.findings)
        return next(((host, each) for host, each in every if _id(host, each) == id_), None)

    def unaccepted(self, said: Findings) -> Iterator[Finding]:
        """Yield what a host says that nobody accepts."""
        return (each for each in said.findings if _id(said.host, each) not in self.accepted)

    def accepted_now(self) -> int:
        """Return how many of what is found somebody accepts."""
        return sum(len(said.findings) - sum(1 for _ in self.unaccepted(said)) for said in self.by_host.values())

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


def reopened(each: Waiver, why: str, who: str) -> Entry:
    """Return what the log says where a waiver ends by itself."""
    return Entry(who, REOPENED, accepted_target(each), detail=f"{why}; {each.by} accepted it: {each.why}")


def accepted_target(each: Waiver) -> str:
    """Return what the log calls an accepted finding: what it is called when it is raised."""
    return f"{each.host}: {each.check}: {each.object}"


def _id(host: HostId, finding: Finding) -> FindingId:
    return finding_id(host, finding.check, finding.object)


def _target(host: HostId, finding: Finding) -> str:
    return f"{host}: {finding.check}: {finding.object}"


def _of(target: str, host: HostId) -> bool:
    return target.startswith(f"{host}: ")


def _detail(finding: Finding) -> str:
    return finding.seen
