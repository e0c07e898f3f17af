"""Intent → ruleset. Same intent, same bytes."""

from stockade.core.compile.nft.bridge import bridge_table
from stockade.core.compile.nft.inet import inet_table, named
from stockade.core.compile.nft.judging import Judging
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.model.intent import Intent


def render(intent: Intent) -> Ruleset:
    """Return both tables of one host, complete."""
    judging = Judging(intent)
    return Ruleset((inet_table(intent, judging), bridge_table(intent, judging)))


def superseded(intent: Intent, held: Ruleset) -> bool:
    """Tell whether what is held is in force and says that it is another intent's.

    Tables without a base chain are not in force; those that a release before this one wrote say nothing.
    """
    return any(
        "intent" in table.sets
        and table.sets["intent"].elements != named(intent).elements
        and any(chain.hook for chain in table.chains.values())
        for table in held.tables
    )
