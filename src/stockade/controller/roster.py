"""What each host should enforce, and what it says it does. A realised version never goes backwards."""

from collections.abc import Iterable, Mapping

import msgspec

from stockade.core.model.census import Census
from stockade.core.model.ids import HostId, Revision, Version
from stockade.core.model.intent import Intent
from stockade.seams.store import Realised
from stockade.wire import Counters, Outcome


class Roster:
    """Wanted and realised, by host. No I/O: what is to be stored is returned."""

    def __init__(self, realised: Iterable[Realised] = ()) -> None:
        self.wanted: Mapping[HostId, Intent] = {}
        self.revision = Revision(-1)
        """Of the snapshot that was compiled to them."""
        self.realised = {each.host: each for each in realised}
        self.counters: dict[HostId, Counters] = {}
        self.censuses: dict[HostId, Census] = {}
        self.confirmed: set[HostId] = set()
        """Hosts that have said themselves what they enforce. What is only remembered may have been undone since."""

    def publish(self, intents: Mapping[HostId, Intent], revision: Revision) -> tuple[HostId, ...]:
        """Take what a snapshot was compiled to; return the hosts whose fingerprint moved, which must hear of it."""
        before, self.revision = self.wanted, revision
        self.wanted = dict(intents)
        for told in (self.counters, self.censuses):
            for host in set(told) - set(intents):
                del told[host]
        return tuple(
            host
            for host in sorted(intents)
            if host not in before or before[host].fingerprint != intents[host].fingerprint
        )

    def caught_up(self, at: float) -> tuple[Realised, ...]:
        """Return new records of hosts that enforce the wanted state already, under an older version's number."""
        records = []
        for host in sorted(self.wanted):
            intent, known = self.wanted[host], self.realised.get(host)
            if known and _same(known, intent) and (known.version or 0) < intent.version:
                records.append(msgspec.structs.replace(known, version=intent.version, revision=intent.revision, at=at))
        return tuple(records)

    def judge(self, outcome: Outcome, at: float) -> Realised | None:
        """Return the record that an outcome makes; None where it is of something older than what is known already."""
        known = self.realised.get(outcome.host) or Realised(outcome.host, at)
        if outcome.error:
            return msgspec.structs.replace(known, at=at, error=outcome.error)
        if known.version is not None and (outcome.version, outcome.revision) < (known.version, known.revision):
            # A host that started from its disk vouches for the same under the number by which it was told of it.
            return msgspec.structs.replace(known, at=at) if outcome.fingerprint == known.fingerprint else None
        wanted = self.wanted.get(outcome.host)
        newer = wanted is not None and (wanted.version, wanted.revision) >= (outcome.version, outcome.revision)
        if wanted is not None and newer and wanted.fingerprint == outcome.fingerprint:
            return Realised(outcome.host, at, wanted.version, wanted.revision, outcome.fingerprint)
        return Realised(outcome.host, at, outcome.version, outcome.revision, outcome.fingerprint)

    def record(self, records: Iterable[Realised]) -> None:
        """Take records that were stored."""
        for each in records:
            self.realised[each.host] = each

    def confirm(self, record: Realised) -> None:
        """Take a stored record that a host has just vouched for."""
        self.record((record,))
        self.confirmed.add(record.host)

    def in_force(self, host: HostId) -> Version | None:
        """Return the version that is in force at a host; None where none is known to be."""
        known = self.realised.get(host)
        return known.version if known else None

    def waiting(self) -> tuple[HostId, ...]:
        """Return the hosts that do not enforce what they should, or have not said so yet."""
        return tuple(host for host in sorted(self.wanted) if not self.settled(host))

    def settled(self, host: HostId) -> bool:
        """Tell whether a host has said that it enforces what it should."""
        known = self.realised.get(host)
        return known is not None and host in self.confirmed and host in self.wanted and _same(known, self.wanted[host])


def _same(known: Realised, intent: Intent) -> bool:
    return not known.error and known.fingerprint == intent.fingerprint
