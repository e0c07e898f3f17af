"""What a host's kernel shows of who is there, by network namespace: the raw matter of a completeness audit."""

import msgspec

from stockade.core.model.census import Around, Listening, NotAssessed, Process


class NamespaceSeen(msgspec.Struct, frozen=True):
    """One network namespace, by its mark (``seams.places``): its first process, and what is listened on in it."""

    mark: str
    process: Process | None = None
    listening: tuple[Listening, ...] = ()


class Survey(msgspec.Struct, frozen=True):
    """A whole host: its own network, what is listened on there, and every other network namespace."""

    around: Around = Around()
    listening: tuple[Listening, ...] = ()
    namespaces: tuple[NamespaceSeen, ...] = ()
    not_assessed: tuple[NotAssessed, ...] = ()
