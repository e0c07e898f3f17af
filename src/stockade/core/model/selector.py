"""Selectors as values: expressions over labels (``docs/policy.md``, 7). Parsing and matching live in ``select``."""

import msgspec


class Everything(msgspec.Struct, frozen=True, gc=False, cache_hash=True, tag="all"):
    """``all``: every labelled workload."""


class Equal(msgspec.Struct, frozen=True, gc=False, cache_hash=True, tag="eq"):
    """``k = v``; ``trusted`` is ``trusted(k = v)``: the label's source must be trusted enough for its dimension."""

    key: str
    value: str
    trusted: bool = False


class In(msgspec.Struct, frozen=True, gc=False, cache_hash=True, tag="in"):
    """``k in (a, b)``; values are sorted and distinct."""

    key: str
    values: tuple[str, ...]


class Has(msgspec.Struct, frozen=True, gc=False, cache_hash=True, tag="has"):
    """``has k``."""

    key: str


class Not(msgspec.Struct, frozen=True, gc=False, cache_hash=True, tag="not"):
    """``not x``. ``k != v`` is ``Not(Equal)``, ``k not in (…)`` is ``Not(In)``: both true where ``k`` is absent."""

    of: "Selector"


class And(msgspec.Struct, frozen=True, gc=False, cache_hash=True, tag="and"):
    """``x and y …``: two or more."""

    of: tuple["Selector", ...]


class Or(msgspec.Struct, frozen=True, gc=False, cache_hash=True, tag="or"):
    """``x or y …``: two or more."""

    of: tuple["Selector", ...]


Selector = Everything | Equal | In | Has | Not | And | Or

ALL = Everything()
