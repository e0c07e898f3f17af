"""The operations on our tables, as values. Each names its table by family; the table's name is always ``TABLE``.

An operation is refused, and the whole step with it, where the kernel would refuse it: what it refers to must exist,
what it removes must not be referred to, what it adds must not exist.
"""

import msgspec

from stockade.core.compile.nft.ruleset import ElementSet


class AddTable(msgspec.Struct, frozen=True, tag=True):
    """A new, empty table."""

    family: str


class DeleteTable(msgspec.Struct, frozen=True, tag=True):
    """A table with everything in it."""

    family: str


class AddCounter(msgspec.Struct, frozen=True, tag=True):
    """A new named counter, at zero."""

    family: str
    name: str


class DeleteCounter(msgspec.Struct, frozen=True, tag=True):
    """A counter that no rule names."""

    family: str
    name: str


class AddSet(msgspec.Struct, frozen=True, tag=True):
    """A new set or map, without elements: ``declared.elements`` is empty."""

    family: str
    name: str
    declared: ElementSet


class FlushSet(msgspec.Struct, frozen=True, tag=True):
    """Every element of a set or map goes."""

    family: str
    name: str
    is_map: bool = False


class DeleteSet(msgspec.Struct, frozen=True, tag=True):
    """A set or map that no rule looks at."""

    family: str
    name: str
    is_map: bool = False


class AddElements(msgspec.Struct, frozen=True, tag=True):
    """New elements, sorted. Chains that they lead to exist."""

    family: str
    name: str
    elements: tuple[str, ...]


class DeleteElements(msgspec.Struct, frozen=True, tag=True):
    """Elements that go, sorted; of a map, keys and what they led to."""

    family: str
    name: str
    elements: tuple[str, ...]


class AddChain(msgspec.Struct, frozen=True, tag=True):
    """A new chain without rules. With a ``hook`` it sees packets from the moment of the transaction."""

    family: str
    name: str
    hook: str = ""


class FlushChain(msgspec.Struct, frozen=True, tag=True):
    """Every rule of a chain goes."""

    family: str
    name: str


class FillChain(msgspec.Struct, frozen=True, tag=True):
    """Rules at the end of a chain that was empty when the step began, or that nothing leads to yet; in order."""

    family: str
    name: str
    rules: tuple[str, ...]


class DeleteChain(msgspec.Struct, frozen=True, tag=True):
    """A chain that nothing leads to."""

    family: str
    name: str


Operation = (
    AddTable
    | DeleteTable
    | AddCounter
    | DeleteCounter
    | AddSet
    | FlushSet
    | DeleteSet
    | AddElements
    | DeleteElements
    | AddChain
    | FlushChain
    | FillChain
    | DeleteChain
)
Step = tuple[Operation, ...]
"""One transaction: all of it happens at one instant, or nothing does."""
