"""What label rules read of a sighting: its facts by key, wildcards, templates. Pure functions and frozen values.

Never decides which label wins; that is ``labelling``.
"""

import fnmatch
import functools
import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

from stockade.core.model.inventory import Sighting

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_STARRED_KEY = re.compile(r"\{(label|tag):([^{}*]*)\*([^{}*]*)\}")

_PARSED = 1024
"""How many parsed conditions and templates are remembered: a parse depends on its text alone."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class FactBook:
    """The facts of one sighting, by the keys that ``LabelRule`` documents. An empty fact is absent."""

    __slots__ = ("_maps", "_plain", "_sighting")

    def __init__(self, sighting: Sighting) -> None:
        facts = sighting.facts
        self._sighting = sighting
        self._maps = {"label": dict(facts.labels), "tag": dict(facts.tags)}
        self._plain = {
            "runtime": facts.runtime,
            "kind": sighting.kind.value,
            "image": facts.image,
            "namespace": facts.namespace,
            "host": facts.host_name or sighting.host or "",
            "name": sighting.name,
        }

    def get(self, key: str) -> str | None:
        """Return one fact, None where it is absent. A label or tag that is there and empty is an empty text."""
        kind, colon, rest = key.partition(":")
        if colon:
            return self._maps.get(kind, {}).get(rest)
        return self._plain.get(key) or None

    def starred(self, kind: str, prefix: str, suffix: str) -> list[str]:
        """Return what the star stands for in each ``kind:prefix*suffix`` that is there, sorted; never empty texts."""
        fixed = len(prefix) + len(suffix)
        return sorted(
            key[len(prefix) : len(key) - len(suffix)]
            for key in self._maps[kind]
            if len(key) > fixed and key.startswith(prefix) and key.endswith(suffix)
        )

    def inside(self, network: Network) -> bool:
        """Tell whether any address of any of its endpoints lies inside ``network``."""
        return any(
            ipaddress.ip_address(address) in network
            for endpoint in self._sighting.endpoints
            for address in endpoint.addresses
        )


class Condition(NamedTuple):
    """One condition of a label rule, parsed: an exact text, a wildcard pattern, or (for ``cidr``) a network."""

    key: str
    wanted: str | re.Pattern[str] | Network | None

    def holds(self, facts: FactBook) -> bool:
        """Tell whether it holds; an absent fact meets no condition, a CIDR that is none meets no address."""
        if self.key == "cidr":
            return isinstance(self.wanted, Network) and facts.inside(self.wanted)
        fact = facts.get(self.key)
        if fact is None:
            return False
        return self.wanted.match(fact) is not None if isinstance(self.wanted, re.Pattern) else self.wanted == fact


@functools.lru_cache(_PARSED)
def parse_condition(key: str, wanted: str) -> Condition:
    """Parse one (fact key, wanted value) of a label rule."""
    if key == "cidr":
        return Condition(key, _network(wanted))
    if "*" in wanted or "?" in wanted:
        return Condition(key, re.compile(fnmatch.translate(wanted.replace("[", "[[]"))))
    return Condition(key, wanted)


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


class Setting(NamedTuple):
    """One (label key, template) of a label rule, parsed. ``star`` is (kind, prefix, suffix) of a starred key."""

    key: tuple[str, ...]
    value: tuple[str, ...]
    star: tuple[str, str, str] | None

    def labels(self, facts: FactBook) -> Iterator[tuple[str, str]]:
        """Yield the (key, value)s it sets; a template with an absent or empty fact sets nothing."""
        if self.star is None:
            yield from _pair(_render(self.key, facts), _render(self.value, facts))
            return
        for match in facts.starred(*self.star):
            yield from _pair(match, _render(self.value, facts, match))


def _pair(key: str | None, value: str | None) -> Iterator[tuple[str, str]]:
    if key and value:
        yield key, value


@functools.lru_cache(_PARSED)
def parse_setting(key: str, template: str) -> Setting:
    """Parse one (label key, template) of a label rule."""
    starred = _STARRED_KEY.fullmatch(key)
    return Setting(
        key=tuple(_PLACEHOLDER.split(key)),
        value=tuple(_PLACEHOLDER.split(template)),
        star=(starred[1], starred[2], starred[3]) if starred else None,
    )


def _render(template: tuple[str, ...], facts: FactBook, star: str = "*") -> str | None:
    """Fill a template (literal, fact, literal, …), or None where a fact is absent; a fact's ``*`` becomes ``star``."""
    if len(template) == 1:
        return template[0]
    parts = list(template)
    for place in range(1, len(parts), 2):
        fact = facts.get(parts[place].replace("*", star))
        if not fact:
            return None
        parts[place] = fact
    return "".join(parts)
