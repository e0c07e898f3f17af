"""What a user types for an end of a connection, who that is, and what to call it so that it can be typed back."""

import difflib
import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from stockade.core.compile.addresses import LINK_LOCAL, own_addresses
from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.inventory import Workload, WorkloadState
from stockade.core.model.labels import Label
from stockade.core.model.policy import Mode
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.origins import origin
from stockade.core.plan.values import NamedEnd
from stockade.errors import StockadeError


class Named(msgspec.Struct, frozen=True):
    """One end: an address to send from or to, and the workload that it is, if any.

    Who shares a network namespace is judged as its owner: that is the workload then. ``host`` carries the end, by the
    interface ``port`` where it has one of its own; a link that was seen before its workload has both too.
    """

    text: str
    address: Address
    workload: Workload | None = None
    host: HostId | None = None
    port: str = ""

    @property
    def known(self) -> Workload | None:
        """The workload, where anybody has labelled it."""
        return self.workload if self.workload and self.workload.known else None

    def end(self, snapshot: Snapshot, mode: Mode | None) -> NamedEnd:
        """Describe it as an answer does."""
        found = self.workload
        labels: tuple[Label, ...] = found.labels.items if found else ()
        return NamedEnd(
            text=self.text,
            workload=found.id if found else None,
            host=self.host,
            address=self.address,
            labels=labels,
            mode=mode,
            name=calling(snapshot, (found.id,))[found.id] if found else "",
            origins=tuple(origin(snapshot, found, each) for each in labels) if found else (),
        )


def named(snapshot: Snapshot, text: str, *, v6: bool = False) -> Named:
    """Find a workload by name or id, or take an address. What several workloads share needs the id."""
    address = address_of(text)
    if address is not None:
        owner = _owner(snapshot, address)
        return _of(text, address, owner) if owner else _linked(snapshot, text, address)
    found = [each for each in snapshot.workloads.values() if text in (each.name, each.id)]
    if not found:
        names = sorted({each.name for each in snapshot.workloads.values()})
        nearest = difflib.get_close_matches(text, names, n=1)
        remedy = f"did you mean {nearest[0]}?" if nearest else "`stockade workloads` lists them; an address works too"
        raise StockadeError(f"no workload is called {text}", remedy=remedy)
    workload = _holder(snapshot, _only(found, f"{text} is the name of"))
    return _of(text, _own(workload, v6=v6), workload)


def calling(snapshot: Snapshot, ids: Iterable[str]) -> Mapping[str, str]:
    """Return what means each of these and no other: a workload's name, or its id where others have that name too.

    What is no workload's id (an address) is called what it is.
    """
    found = {id_: snapshot.workloads.get(WorkloadId(id_)) for id_ in ids}
    names = {each.name for each in found.values() if each}
    count = Counter(each.seen.name for each in snapshot.workloads.values() if each.seen.name in names)
    return {
        id_: each.name if each and count[each.name] == 1 and address_of(each.name) is None else id_
        for id_, each in found.items()
    }


def address_of(text: str) -> Address | None:
    """Return the address that a text is, in canonical text; None where it is a name or an id."""
    try:
        return Address(str(ipaddress.ip_address(text)))
    except ValueError:
        return None


def _only(found: list[Workload], what: str) -> Workload:
    if len(found) > 1:
        ids = ", ".join(sorted(each.id for each in found))
        raise StockadeError(f"{what} {len(found)} workloads", remedy=f"name one by its id: {ids}")
    return found[0]


def _owner(snapshot: Snapshot, address: Address) -> Workload | None:
    """Find whose address it is. Two hosts' private networks may both have it; then only a name says who is meant."""
    local = address.startswith(LINK_LOCAL)
    found = [
        workload
        for workload in snapshot.workloads.values()
        if workload.seen.owner is None and workload.seen.state is not WorkloadState.STOPPED
        if any(
            address in (own_addresses(endpoint) if local else endpoint.addresses)
            for endpoint in workload.seen.endpoints
        )
    ]
    return _only(found, f"{address} is the address of") if found else None


def _of(text: str, address: Address, workload: Workload) -> Named:
    port = next((each.port for each in workload.seen.endpoints if address in own_addresses(each)), "")
    return Named(text, address, workload, workload.seen.host, port)


def _linked(snapshot: Snapshot, text: str, address: Address) -> Named:
    for id_, host in sorted(snapshot.hosts.items()):
        for link in host.unknown:
            if address in own_addresses(link):
                return Named(text, address, None, id_, link.port)
    return Named(text, address)


def _holder(snapshot: Snapshot, workload: Workload) -> Workload:
    return snapshot.workloads.get(workload.seen.owner, workload) if workload.seen.owner else workload


def _own(workload: Workload, *, v6: bool) -> Address:
    """Return an address of the asked family, else of the other."""
    addresses = [each for endpoint in workload.seen.endpoints for each in endpoint.addresses]
    routable = [each for each in addresses if not ipaddress.ip_address(each).is_loopback]
    wanted = [each for each in routable if (":" in each) == v6] or routable
    if not wanted:
        raise StockadeError(
            f"{workload.name} has no address", remedy="it has no endpoint: is it running, and on a network of its own?"
        )
    return wanted[0]
