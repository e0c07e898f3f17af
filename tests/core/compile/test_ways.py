"""The kernel's check of our chains (docs/adr/0014-programs-return.md): older kernels follow every way, each anew."""

from collections.abc import Iterator
from functools import cache

import pytest

from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Table
from stockade.core.reconcile.references import chains_of, sets_of, target
from stockade.testing.worlds import world

EACH = 80
"""Ways for each rule and element, what tells of a decision included; they were thousands where programs led on."""


def ways(table: Table) -> int:
    """Count the chains that a check without a memory visits, from every base chain."""

    def leads(rule: str) -> Iterator[str]:
        yield from chains_of([rule])
        for name in sets_of([rule]):
            yield from filter(None, map(target, table.sets[name].elements))

    @cache
    def visits(chain: str) -> int:
        return 1 + sum(visits(each) for rule in table.chains[chain].rules for each in leads(rule))

    return sum(visits(name) for name, chain in table.chains.items() if chain.hook)


def size(table: Table) -> int:
    rules = sum(len(chain.rules) for chain in table.chains.values())
    return rules + sum(len(each.elements) for each in table.sets.values() if each.data == "verdict")


@pytest.mark.parametrize("seed", range(20))
def test_the_ways_through_the_chains_add_up_and_never_multiply(seed: int) -> None:
    for intent in compile_snapshot(world(seed)).values():
        for table in render(intent).tables:
            assert ways(table) <= EACH * size(table), f"{ways(table)} ways through {size(table)} rules and elements"


@pytest.mark.parametrize("seed", range(20))
def test_no_program_leads_to_another_map_of_programs(seed: int) -> None:
    for intent in compile_snapshot(world(seed)).values():
        for table in render(intent).tables:
            maps = {name for name, each in table.sets.items() if each.data == "verdict"}
            programs = {
                target(each) for name in maps if name[:3] in ("egr", "ing") for each in table.sets[name].elements
            }
            seen, left = set(), list(programs)
            while left:
                rules = table.chains[name := left.pop()].rules
                seen.add(name)
                left += chains_of(rules) - seen
                assert not sets_of(rules) & maps, name
