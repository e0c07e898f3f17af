"""Intent → ruleset. Same intent, same bytes."""

from stockade.core.compile.nft.bridge import bridge_table
from stockade.core.compile.nft.inet import inet_table
from stockade.core.compile.nft.judging import Judging
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.intent import Intent


def render(intent: Intent) -> Ruleset:
    """Return both tables of one host, complete."""
    judging = Judging(intent)
    return Ruleset((inet_table(intent, judging), bridge_table(intent, judging)))
