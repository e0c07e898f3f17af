"""Reconciliation: whatever is there becomes what is wanted, in steps that the kernel takes, make before break."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.core.compile.nft.rule import rule
from stockade.core.compile.nft.ruleset import Chain, ElementSet, Ruleset, Table
from stockade.core.reconcile import distrust, made, settled, steps, text
from stockade.core.reconcile.operations import (
    AddChain,
    AddCounter,
    AddElements,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteTable,
    FillChain,
    FlushChain,
)
from stockade.core.reconcile.steps import PIECE
from stockade.seams.kernel import KernelRefused
from stockade.testing.kernel import FakeKernel

pytestmark = pytest.mark.long

FILTER = "type filter hook {} priority -5; policy accept;"
ADDRESSES = [f"10.0.0.{n}" for n in range(1, 6)]
PREFIXES = ["10.1.0.0/16", "10.2.0.0/15", "10.2.0.0/16", "10.9.0.1", "10.9.1.0-10.9.1.9"]
LEAVES = ["c3", "c4"]


@st.composite
def declared_sets(draw: st.DrawFn, leaves: list[str]) -> ElementSet:
    kind = draw(st.sampled_from(["exact", "interval", "map", "dynamic", "ports"]))
    comment = draw(st.sampled_from(["", "stockade layout 1"]))
    if kind == "exact":
        return ElementSet("ipv4_addr", comment=comment, elements=draw(st.frozensets(st.sampled_from(ADDRESSES))))
    if kind == "ports":
        elements = st.sampled_from(['"eth0" . 10.0.0.1', '"br-1" . 10.0.0.2'])
        return ElementSet("ifname . ipv4_addr", elements=draw(st.frozensets(elements)))
    if kind == "interval":
        one_of_two = draw(st.sampled_from(PREFIXES[1:3]))
        others = draw(st.frozensets(st.sampled_from([PREFIXES[0], *PREFIXES[3:]])))
        return ElementSet("ipv4_addr", flags=("interval",), elements=others | {one_of_two})
    if kind == "map":
        verdicts = [f"goto {leaf}" for leaf in leaves] + ["drop"]
        pairs = draw(st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from(verdicts)))
        return ElementSet("ipv4_addr", data="verdict", elements=frozenset(f"{k} : {v}" for k, v in pairs.items()))
    return ElementSet("ipv4_addr", flags=("dynamic", "timeout"), timeout=draw(st.sampled_from([0, 9])), dynamic=True)


@st.composite
def tables(draw: st.DrawFn, family: str) -> Table:
    """A table whose names mean different things in different tables: base or regular, exact or interval or map."""
    chains = {name: draw(st.booleans()) and draw(st.booleans()) for name in draw(st.sets(st.sampled_from(CHAINS)))}
    leaves = [name for name in LEAVES if chains.get(name) is False]
    sets = {name: draw(declared_sets(leaves)) for name in draw(st.sets(st.sampled_from(["s0", "s1", "s2"])))}
    counters = draw(st.frozensets(st.sampled_from(["k0", "k1"])))
    built = {}
    for name, based in sorted(chains.items()):
        below = [each for each, base in chains.items() if not base and each > name]
        statements = ["drop", 'iifname "goto c0" accept']
        statements += [f"counter name {each} accept" for each in counters]
        if name not in LEAVES:
            statements += [f"goto {each}" for each in below]
            statements += [f"meta l4proto tcp th dport vmap {{ 80 : goto {each}, 443-500 : drop }}" for each in below]
            statements += [f"ip saddr vmap @{each}" for each, one in sets.items() if one.data]
        statements += [f"ip saddr @{each} @th,64,128 != 0 accept" for each, one in sets.items() if not one.data]
        rules = draw(st.lists(st.sampled_from(statements), max_size=4))
        built[name] = Chain(FILTER.format("forward") if based else "", tuple(map(rule, rules)))
    return Table(family, sets=sets, counters=counters, chains=built)


CHAINS = ["c0", "c1", "c2", *LEAVES]


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    families = draw(st.sampled_from([(), ("inet",), ("bridge",), ("inet", "bridge")]))
    return Ruleset(tuple(draw(tables(family)) for family in families))


def apply(kernel: FakeKernel, desired: Ruleset) -> int:
    planned = steps(desired, kernel.observe())
    for step in planned:
        kernel.commit(text(step))
    return len(planned)


def canonical(ruleset: Ruleset) -> Ruleset:
    """What a kernel that is given exactly this would show."""
    kernel = FakeKernel(strict=True)
    apply(kernel, ruleset)
    return kernel.observe()


@settings(max_examples=300, deadline=None)
@given(rulesets(), rulesets())
def test_whatever_is_there_becomes_what_is_wanted(there: Ruleset, wanted: Ruleset) -> None:
    kernel = FakeKernel(strict=True)
    apply(kernel, there)
    assert apply(kernel, wanted) <= 2
    assert kernel.observe() == canonical(wanted)
    assert settled(wanted, kernel.observe())


@settings(max_examples=200, deadline=None)
@given(rulesets(), rulesets())
def test_the_first_step_touches_nothing_in_force(there: Ruleset, wanted: Ruleset) -> None:
    """After it, everything that was there is as it was, and no hook leads to anything new."""
    kernel = FakeKernel(strict=True)
    apply(kernel, there)
    before = kernel.observe()
    planned = steps(wanted, before)
    if len(planned) < 2:
        return
    kernel.commit(text(planned[0]))
    now = {table.family: table for table in kernel.observe().tables}
    for table in before.tables:
        same = now[table.family]
        assert {name: same.sets[name] for name in table.sets} == dict(table.sets)
        assert {name: same.chains[name] for name in table.chains} == dict(table.chains)
    old = {table.family: table for table in before.tables}
    for family, table in now.items():
        added = table.chains.keys() - (old[family].chains.keys() if family in old else set())
        assert not any(table.chains[name].hook for name in added)


@settings(max_examples=200, deadline=None)
@given(rulesets(), rulesets(), rulesets())
def test_what_was_made_is_known_without_being_read(there: Ruleset, wanted: Ruleset, later: Ruleset) -> None:
    """Half way somebody may want something else: the way there begins at what was made by then."""
    kernel = FakeKernel(strict=True)
    apply(kernel, there)
    before = kernel.observe()
    if len(planned := steps(wanted, before)) < 2:
        return
    kernel.commit(text(planned[0]))
    half = made(wanted, before)
    assert settled(half, kernel.observe())
    for step in steps(later, half):
        kernel.commit(text(step))
    assert kernel.observe() == canonical(later)


@settings(max_examples=200, deadline=None)
@given(rulesets(), rulesets(), rulesets())
def test_dying_between_the_steps_loses_nothing(there: Ruleset, wanted: Ruleset, later: Ruleset) -> None:
    kernel = FakeKernel(strict=True)
    apply(kernel, there)
    for step in steps(wanted, kernel.observe())[:1]:
        kernel.commit(text(step))
    apply(kernel, later)
    assert kernel.observe() == canonical(later)


@settings(max_examples=100, deadline=None)
@given(rulesets(), rulesets())
def test_the_same_input_gives_the_same_bytes(there: Ruleset, wanted: Ruleset) -> None:
    def turned(ruleset: Ruleset) -> Ruleset:
        return Ruleset(
            tuple(
                Table(
                    table.family,
                    sets=dict(reversed(table.sets.items())),
                    counters=frozenset(sorted(table.counters, reverse=True)),
                    chains=dict(reversed(table.chains.items())),
                )
                for table in reversed(ruleset.tables)
            )
        )

    one = [text(step) for step in steps(wanted, there)]
    assert one == [text(step) for step in steps(turned(wanted), turned(there))]


@settings(max_examples=100, deadline=None)
@given(rulesets())
def test_what_is_distrusted_is_written_anew(there: Ruleset) -> None:
    kernel = FakeKernel(strict=True)
    apply(kernel, there)
    for step in steps(there, distrust(kernel.observe())):
        assert {type(each) for each in step} <= {FlushChain, FillChain}
        kernel.commit(text(step))
    assert kernel.observe() == canonical(there)
    filled = {name for table in there.tables for name in table.chains}
    flushed = {each.name for step in steps(there, distrust(there)) for each in step if isinstance(each, FlushChain)}
    assert flushed == filled


# Examples that read as what they are


def one_table(**chains: Chain) -> Ruleset:
    element_set = ElementSet("ipv4_addr", data="verdict", elements=frozenset({"10.0.0.1 : goto web_1"}))
    return Ruleset((Table("inet", sets={"ingress": element_set}, counters=frozenset({"refused"}), chains=chains),))


FORWARD = Chain(FILTER.format("forward"), (rule("ip daddr vmap @ingress"), rule("drop")))
FIRST = one_table(forward=FORWARD, web_1=Chain("", (rule("counter name refused drop"),)))


def second() -> Ruleset:
    changed = ElementSet("ipv4_addr", data="verdict", elements=frozenset({"10.0.0.1 : goto web_2"}))
    chains = {"forward": FORWARD, "web_2": Chain("", (rule("accept"),))}
    return Ruleset((Table("inet", sets={"ingress": changed}, counters=frozenset({"refused"}), chains=chains),))


def test_a_new_program_is_there_before_the_map_leads_to_it() -> None:
    make, switch = steps(second(), FIRST)
    assert make == (AddChain("inet", "web_2"), FillChain("inet", "web_2", (rule("accept"),)))
    assert text(switch) == (
        "flush chain inet stockade web_1\n"
        "delete element inet stockade ingress { 10.0.0.1 }\n"
        "delete chain inet stockade web_1\n"
        "add element inet stockade ingress { 10.0.0.1 : goto web_2 }\n"
    )


def test_the_first_ruleset_is_made_whole_before_it_is_hooked() -> None:
    make, switch = steps(FIRST, Ruleset())
    assert [type(each) for each in make] == [AddTable, AddCounter, AddSet, AddChain, AddElements, FillChain]
    assert [type(each) for each in switch] == [AddChain, FillChain]


def test_the_last_ruleset_goes_with_its_table() -> None:
    assert steps(Ruleset(), FIRST) == ((DeleteTable("inet"),),)


def test_a_foreign_rule_among_ours_is_a_difference() -> None:
    chains = {**FIRST.tables[0].chains, "forward": Chain(FORWARD.hook, ("accept", *FORWARD.rules))}
    (switch,) = steps(FIRST, one_table(**chains))
    assert switch == (FlushChain("inet", "forward"), FillChain("inet", "forward", FORWARD.rules))


def test_what_is_in_our_table_and_not_wanted_goes() -> None:
    chains = {**FIRST.tables[0].chains, "smuggled": Chain(FILTER.format("input"), ("accept",))}
    (switch,) = steps(FIRST, one_table(**chains))
    assert switch == (FlushChain("inet", "smuggled"), DeleteChain("inet", "smuggled"))


def test_the_kernel_in_memory_refuses_the_wrong_order() -> None:
    kernel = FakeKernel()
    make, switch = steps(FIRST, Ruleset())
    with pytest.raises(KernelRefused):
        kernel.commit(text(switch))
    kernel.commit(text(make))
    kernel.commit(text(switch))
    for wrong in (
        "delete chain inet stockade web_1",
        "delete set inet stockade ingress",
        "delete counter inet stockade refused",
        "add rule inet stockade forward goto nowhere",
        "add element inet stockade ingress { 10.0.0.1 : drop }",
        "add element inet stockade ingress { 10.0.0.2 : goto forward }",
        "add rule inet stockade web_1 goto web_1",
        "nonsense",
    ):
        before = kernel.observe()
        with pytest.raises(KernelRefused):
            kernel.commit(f"add chain inet stockade fine\n{wrong}\n")
        assert kernel.observe() == before


def test_much_is_made_in_pieces_and_switched_at_once() -> None:
    """No piece is larger than a socket's buffer takes without root; and only the last step is felt."""
    addresses = frozenset(f"10.0.{n >> 8}.{n & 255}" for n in range(20_000))
    ways = ElementSet("ipv4_addr", data="verdict", elements=frozenset(f"{each} : goto web_1" for each in addresses))
    long = Chain("", tuple(rule(f"ip saddr 10.0.0.0/8 th dport {n} accept") for n in range(5000)))
    chains = {"forward": FORWARD, "web_1": Chain("", (rule("accept"),)), "long": long}
    wanted = Ruleset((Table("inet", sets={"ingress": ways}, chains=chains),))
    planned = steps(wanted, Ruleset())
    assert len(planned) > 5
    assert all(len(text(step)) < 2 * PIECE for step in planned)
    kernel = FakeKernel(strict=True)
    for step in planned[:-1]:
        kernel.commit(text(step))
        assert not any(chain.hook for chain in kernel.observe().tables[0].chains.values())
    kernel.commit(text(planned[-1]))
    assert kernel.observe() == Ruleset((Table("inet", sets={"ingress": ways}, chains=dict(sorted(chains.items()))),))
    assert settled(wanted, kernel.observe())
