"""A host's compiled rules for people: the text as nft would list it, and each rule beside its policy line. Pure."""

from collections.abc import Iterator

from stockade.core.compile.nft.rule import short
from stockade.core.compile.nft.ruleset import TABLE, Chain, ElementSet, Ruleset, Table, rule_comment
from stockade.core.model.ids import RuleId
from stockade.core.model.intent import Intent
from stockade.core.model.policy import Where
from stockade.wire import Counters
from stockade.wire.api import RuleText


def text(ruleset: Ruleset) -> str:
    """Return a ruleset as nft writes it, with its tables, sets, counters and chains in their order."""
    return "".join(line + "\n" for table in ruleset.tables for line in _table(table))


def rule_texts(intent: Intent, ruleset: Ruleset, counted: Counters | None) -> tuple[RuleText, ...]:
    """Return each rule in order; those that a policy made with their id, place and how often they decided."""
    wheres = {short(rule): (rule, where) for rule, where in intent.rules}
    packets = _packets(counted)
    return tuple(
        _rule_text(f"{table.family} {TABLE}", chain, rule, wheres, packets)
        for table in ruleset.tables
        for chain in sorted(table.chains)
        for rule in table.chains[chain].rules
    )


def _packets(counted: Counters | None) -> dict[RuleId, int]:
    found: dict[RuleId, int] = {}
    for each in counted.rules if counted else ():
        found[each.rule] = found.get(each.rule, 0) + each.packets
    return found


def _rule_text(
    table: str, chain: str, rule: str, wheres: dict[str, tuple[RuleId, Where]], packets: dict[RuleId, int]
) -> RuleText:
    body, _, _ = rule.rpartition(' comment "')
    _, _, note = rule_comment(rule).partition(" ")
    id_, where = wheres.get(note, (None, None))
    return RuleText(table, chain, body or rule, id_, where, packets.get(id_) if id_ else None)


def _table(table: Table) -> Iterator[str]:
    yield f"table {table.family} {TABLE} {{"
    for name in sorted(table.counters):
        yield f"\tcounter {name} {{ }}"
    for name in sorted(table.sets):
        yield from _set(name, table.sets[name])
    for name in sorted(table.chains):
        yield from _chain(name, table.chains[name])
    yield "}"


def _set(name: str, content: ElementSet) -> Iterator[str]:
    kind = content.key if content.key.startswith("typeof ") else f"type {content.key}"
    yield f"\t{'map' if content.data else 'set'} {name} {{"
    yield f"\t\t{kind}{f' : {content.data}' if content.data else ''}"
    if content.flags:
        yield f"\t\tflags {','.join(content.flags)}"
    if content.timeout:
        yield f"\t\ttimeout {content.timeout}s"
    if content.comment:
        yield f'\t\tcomment "{content.comment}"'
    if content.elements:
        yield f"\t\telements = {{ {', '.join(sorted(content.elements))} }}"
    yield "\t}"


def _chain(name: str, chain: Chain) -> Iterator[str]:
    yield f"\tchain {name} {{"
    if chain.hook:
        yield f"\t\t{chain.hook}"
    for rule in chain.rules:
        yield f"\t\t{rule}"
    yield "\t}"
