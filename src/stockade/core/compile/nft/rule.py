"""One rule's text. Each rule ends in a comment that stands for its content, so that read-back can be compared."""

from functools import lru_cache

from stockade.core.compile.text import digest
from stockade.core.model.ids import RuleId

REMEMBERED = 1024
"""Rules' texts, and counters' names, that are remembered: a host has the same in one ruleset after the other."""


@lru_cache(REMEMBERED)
def rule(text: str, of: RuleId | None = None) -> str:
    """Return the rule with a comment: a digest of its text and, where a policy's rule made it, that rule's short id."""
    note = f" {short(of)}" if of else ""
    return f'{text} comment "{digest(text)}{note}"'


def short(rule_id: RuleId) -> str:
    """Return a policy rule's id as it may stand in nft's text, whatever its name contains."""
    return "r" + digest(rule_id)


@lru_cache(REMEMBERED)
def counter(rule_id: RuleId, would: bool = False) -> str:
    """Return the name of a rule's counter; ``would``: of what it would have denied where nothing is enforced."""
    return ("w" if would else "c") + digest(rule_id)
