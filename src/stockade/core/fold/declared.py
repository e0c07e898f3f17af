"""Workloads that policy declares: documents of kind ``Workload`` → workloads of the inventory.

They follow from the active policy and from who else is there, and from nothing that was there before: an address that
a source reports as somebody's, in the realm that hosts share, is that somebody's and not the document's. Such
contests are never silent: ``contests`` names them.
"""

from collections.abc import Iterable, Iterator

from stockade.core.model.ids import DECLARED, Address, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Facts, Sighting
from stockade.core.model.labels import Label, LabelSource
from stockade.core.model.policy import UnmanagedWorkload
from stockade.core.model.snapshot import Contest, Snapshot


def declared_id(document: UnmanagedWorkload) -> WorkloadId:
    """Return the id of the workload that a document declares."""
    return WorkloadId(DECLARED + document.name)


def is_declared(workload: WorkloadId) -> bool:
    """Tell whether documents alone may say who this is."""
    return workload.startswith(DECLARED)


def written(document: UnmanagedWorkload) -> Iterator[Label]:
    """Yield a document's labels, each with the place of the document."""
    place = f"{document.where.file}:{document.where.line}"
    return (Label(key, value, LabelSource.OPERATOR, place) for key, value in document.labels)


def sighting_of(document: UnmanagedWorkload, taken: frozenset[Address]) -> Sighting:
    """Return a document's workload, without the addresses that somebody else has."""
    left = tuple(each for each in document.addresses if each not in taken)
    return Sighting(
        declared_id(document),
        document.name,
        document.kind,
        endpoints=(Endpoint(Attachment.REMOTE, left),) if left else (),
        facts=Facts(host_name=document.host),
    )


def shared(sighting: Sighting) -> Iterator[Address]:
    """Yield the addresses that a reported workload has in the realm that hosts share."""
    return (each for endpoint in sighting.endpoints if not endpoint.realm for each in endpoint.addresses)


def taken(sightings: Iterable[Sighting]) -> frozenset[Address]:
    """Return the addresses in the shared realm that somebody has whom a source reports."""
    return frozenset(each for sighting in sightings if not is_declared(sighting.id) for each in shared(sighting))


def contested(documents: tuple[UnmanagedWorkload, ...], sightings: Iterable[Sighting]) -> list[UnmanagedWorkload]:
    """Return the documents that claim an address of any of these."""
    addresses = taken(sightings) if documents else frozenset()
    return [each for each in documents if not addresses.isdisjoint(each.addresses)] if addresses else []


def contests(snapshot: Snapshot) -> tuple[Contest, ...]:
    """Return every address of a document that is somebody else's, sorted. Who is there wins: it is not the document's.

    In a network of a host's own (a bridge's) who is there wins on that host; elsewhere it stays the document's.
    """
    claims = {address: each for each in snapshot.policy.workloads for address in each.addresses}
    found = {
        Contest(declared_id(claim), address, id_, workload.seen.host if endpoint.realm else None, claim.where)
        for id_, workload in (snapshot.workloads.items() if claims else ())
        if not is_declared(id_)
        for endpoint in workload.seen.endpoints
        for address in endpoint.addresses
        if (claim := claims.get(address)) is not None
    }
    return tuple(sorted(found, key=lambda each: (each.workload, each.address, each.holder)))
