"""What the kernel counted, by the rule that decided."""

from collections.abc import Mapping

from stockade.core.compile.nft.programs import REFUSED, WOULD_REFUSE
from stockade.core.compile.nft.rule import counter
from stockade.core.model.ids import RuleId
from stockade.core.model.intent import Intent, Tier
from stockade.wire import RuleCount

VERDICTS = {
    Tier.CUT: "denied",
    Tier.SPARED: "allowed",
    Tier.CUT_REST: "denied",
    Tier.OVERRIDE_DENY: "denied",
    Tier.ALLOW: "allowed",
    Tier.DENY: "denied",
}
OWN = {
    REFUSED: ("default", "denied"),
    WOULD_REFUSE: ("default", "would be denied"),
    "invalid": ("invalid", "denied"),
    "midstream": ("midstream", "denied"),
    "forged": ("forged", "denied"),
    "held": ("held", "denied"),
    "unjudged": ("unjudged", "denied"),
}
"""Counters that no policy rule has: what they are called, and what became of the packets."""


def counted(intent: Intent, counters: Mapping[str, tuple[int, int]]) -> tuple[RuleCount, ...]:
    """Put names to counters: each rule of the intent, and what Stockade itself drops, that counted anything."""
    found = [RuleCount(RuleId(name), said, *counters.get(each, (0, 0))) for each, (name, said) in OWN.items()]
    lines = {(line.rule, line.tier) for p in intent.programs for line in (*p.egress, *p.ingress)}
    for rule, tier in sorted(lines):
        found.append(RuleCount(rule, VERDICTS[tier], *counters.get(counter(rule), (0, 0))))
        if VERDICTS[tier] == "denied":
            found.append(RuleCount(rule, "would be denied", *counters.get(counter(rule, would=True), (0, 0))))
    return tuple(each for each in found if each.packets)
