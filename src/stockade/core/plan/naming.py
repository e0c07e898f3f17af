"""What a user types for an end of a connection, and who that is."""

import difflib
import ipaddress

import msgspec

from stockade.core.compile.addresses import own_addresses
from stockade.core.model.ids import Address
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import Label
from stockade.core.model.policy import Mode
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.values import NamedEnd
from stockade.errors import StockadeError


class Named(msgspec.Struct, frozen=True):
    """One end: an address to send from or to, and the workload that it is, if any."""

    text: str
    address: Address
    workload: Workload | None = None

    def end(self, mode: Mode | None) -> NamedEnd:
        """Describe it as an answer does."""
        found = self.workload
        labels: tuple[Label, ...] = found.labels.items if found else ()
        return NamedEnd(
            self.text, found.id if found else None, found.seen.host if found else None, self.address, labels, mode
        )


def named(snapshot: Snapshot, text: str, *, v6: bool = False) -> Named:
    """Find a workload by name or id, or take an address. Names that several workloads share need the id."""
    address = _address(text)
    if address is not None:
        return Named(text, address, _owner(snapshot, address))
    found = [each for each in snapshot.workloads.values() if text in (each.name, each.id)]
    if len(found) > 1:
        ids = ", ".join(sorted(each.id for each in found))
        raise StockadeError(f"{text} is the name of {len(found)} workloads", remedy=f"name one by its id: {ids}")
    if not found:
        names = sorted({each.name for each in snapshot.workloads.values()})
        nearest = difflib.get_close_matches(text, names, n=1)
        remedy = f"did you mean {nearest[0]}?" if nearest else "`stockade workloads` lists them; an address works too"
        raise StockadeError(f"no workload is called {text}", remedy=remedy)
    return Named(text, _own(snapshot, found[0], v6=v6), found[0])


def _address(text: str) -> Address | None:
    try:
        return Address(str(ipaddress.ip_address(text)))
    except ValueError:
        return None


def _owner(snapshot: Snapshot, address: Address) -> Workload | None:
    for workload in snapshot.workloads.values():
        if any(address in own_addresses(endpoint) for endpoint in workload.seen.endpoints):
            return workload
    return None


def _own(snapshot: Snapshot, workload: Workload, *, v6: bool) -> Address:
    """Return an address of the asked family; a workload that shares a network namespace has its owner's."""
    holder = snapshot.workloads.get(workload.seen.owner, workload) if workload.seen.owner else workload
    addresses = [each for endpoint in holder.seen.endpoints for each in endpoint.addresses]
    routable = [each for each in addresses if not ipaddress.ip_address(each).is_loopback]
    wanted = [each for each in routable if (":" in each) == v6] or routable
    if not wanted:
        raise StockadeError(
            f"{workload.name} has no address", remedy="it has no endpoint: is it running, and on a network of its own?"
        )
    return wanted[0]
