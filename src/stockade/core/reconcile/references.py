"""What rules and map elements refer to, read from their text. Only text of our own compiler is read."""

import re
from collections.abc import Iterable

_QUOTED = re.compile(r'"[^"]*"')
_LEADS = re.compile(r"\b(?:jump|goto) ([A-Za-z_][\w./-]*)")
_LOOKS = re.compile(r"@([A-Za-z_][\w./-]*)(?!,|[\w./-])")
"""A set's name; ``@th,64,128`` is a piece of the packet."""
_COUNTS = re.compile(r'\bcounter name (?:"([^"]*)"|(\S+))')


def chains_of(rules: Iterable[str]) -> set[str]:
    """Return the chains that these rules lead to, inline maps included."""
    return {name for rule in rules for name in _LEADS.findall(_QUOTED.sub('""', rule))}


def sets_of(rules: Iterable[str]) -> set[str]:
    """Return the named sets and maps that these rules look at or add to."""
    return {name for rule in rules for name in _LOOKS.findall(_QUOTED.sub('""', rule))}


def counters_of(rules: Iterable[str]) -> set[str]:
    """Return the named counters that these rules move."""
    return {quoted or plain for rule in rules for quoted, plain in _COUNTS.findall(_bare(rule))}


def targets_of(elements: Iterable[str]) -> set[str]:
    """Return the chains that a verdict map's elements lead to."""
    return {chain for element in elements if (chain := target(element))}


def target(element: str) -> str:
    """Return the chain that one map element leads to; empty where it leads to none."""
    verdict = element.rpartition(" : ")[2].split()
    return verdict[1] if len(verdict) == 2 and verdict[0] in ("goto", "jump") else ""


def key_of(element: str) -> str:
    """Return an element's key, without verdict and timeout."""
    return element.partition(" : ")[0].partition(" timeout ")[0]


def _bare(rule: str) -> str:
    """A rule without its comment, which may say anything."""
    return rule.rpartition(' comment "')[0] or rule
