"""Desired × observed → steps. Make before break; what nobody wants is swept; equal means nothing to do.

The first step only adds what nothing in force reaches: tables, counters, sets with their elements, regular chains with
their rules. The second is the moment: base chains are filled, elements of living sets change, chains that must be
edited are flushed and refilled, and what is no longer wanted goes, references first.

Why two: the kernel gives a packet that is under way the rules of the generation it began in, but a lookup in a map
answers with the elements of now. A packet that began just before the moment may therefore be led into a chain that is
empty for it. So a chain that a map will lead to must exist, complete, one transaction earlier.

The first step is cut into pieces where it is large: nothing in force reaches any of it, so it need not come at once,
and a transaction has to fit into a socket's buffer (without root, twice net.core.wmem_max: 416 KiB by default).

Promises: the result depends on the two values alone; ``apply(steps(d, o), o)`` is ``d``; a table is never deleted in
order to be made again. Chains are compared by their rules' comments, so a rule of ours must carry one; dynamic sets by
declaration.
"""

from collections.abc import Iterable, Iterator

import msgspec

from stockade.core.compile.nft.ruleset import Chain, ElementSet, Ruleset, Table, rule_comment
from stockade.core.reconcile.operations import (
    AddChain,
    AddCounter,
    AddElements,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteCounter,
    DeleteElements,
    DeleteSet,
    DeleteTable,
    FillChain,
    FlushChain,
    FlushSet,
    Operation,
    Step,
)
from stockade.core.reconcile.references import chains_of, sets_of, targets_of


def steps(desired: Ruleset, observed: Ruleset) -> tuple[Step, ...]:
    """Return the transactions that lead from ``observed`` to ``desired``, in this order.

    None, one or two; more where there is much to make. Only the last changes what is in force.
    """
    there = {table.family: table for table in observed.tables}
    wanted = {table.family: table for table in desired.tables}
    make: list[Operation] = []
    switch: list[Operation] = []
    for family in sorted({*there, *wanted}):
        if family not in wanted:
            switch.append(DeleteTable(family))
            continue
        change = _Change(wanted[family], there.get(family))
        make += change.make()
        switch += change.switch()
    return (*_pieces(make), *((tuple(switch),) if switch else ()))


def made(desired: Ruleset, observed: Ruleset) -> Ruleset:
    """Return what is there when all of ``steps(desired, observed)`` but the last, which switches, has happened."""
    there = {table.family: table for table in observed.tables}
    wanted = {table.family: table for table in desired.tables}
    found = {family: _Change(new, there.get(family)).made() for family, new in wanted.items()}
    return Ruleset(tuple(each for _, each in sorted((there | found).items())))


PIECE = 96 << 10
"""Characters of text in one piece of the first step, about; netlink takes three to four bytes for each."""


def settled(desired: Ruleset, observed: Ruleset) -> bool:
    """Tell whether nothing is to be done."""
    return not steps(desired, observed)


def distrust(observed: Ruleset) -> Ruleset:
    """Return the same with every rule of unknown content, so that each chain is filled anew.

    For tables that others can write: a rule that was replaced by another with the same comment looks as before.
    """
    return Ruleset(tuple(_distrusted(table) for table in observed.tables))


def _pieces(make: list[Operation]) -> Iterator[Step]:
    held: list[Operation] = []
    weight = 0
    for operation in make:
        for part, more in _parts(operation):
            if held and weight + more > PIECE:
                yield tuple(held)
                held, weight = [], 0
            held.append(part)
            weight += more
    if held:
        yield tuple(held)


def _parts(operation: Operation) -> Iterator[tuple[Operation, int]]:
    """Yield an operation, cut where it is larger than a piece, with how many characters it takes."""
    match operation:
        case AddElements(family=family, name=name, elements=lines):
            for part, weight in _runs(lines, len(", ")):
                yield AddElements(family, name, part), weight
        case FillChain(family=family, name=name, rules=lines):
            for part, weight in _runs(lines, len("add rule bridge stockade \n") + len(name)):
                yield FillChain(family, name, part), weight
        case _:
            yield operation, PLAIN


def _runs(lines: tuple[str, ...], each: int) -> Iterator[tuple[tuple[str, ...], int]]:
    start = weight = 0
    for at, line in enumerate(lines):
        if at > start and weight + len(line) + each > PIECE:
            yield lines[start:at], weight
            start, weight = at, 0
        weight += len(line) + each
    yield lines[start:], weight


PLAIN = 80
"""Characters of an operation that is a line."""


def _distrusted(table: Table) -> Table:
    chains = {name: Chain(chain.hook, ("",)) for name, chain in table.chains.items()}
    return msgspec.structs.replace(table, chains=chains)


class _Change:
    """What happens to one table. ``late`` is what cannot be made before the moment."""

    def __init__(self, new: Table, old: Table | None) -> None:
        self.family = new.family
        self.new = new
        self.fresh = old is None
        self.old = old if old is not None else Table(new.family)
        self.kept_chains = new.chains.keys() & self.old.chains.keys()
        self.kept_sets = new.sets.keys() & self.old.sets.keys()
        self.replaced = {n for n in self.kept_sets if not same_declaration(new.sets[n], self.old.sets[n])}
        self.rehooked = {n for n in self.kept_chains if not _same_hook(new.chains[n], self.old.chains[n])}
        self.late_sets, self.late_chains = self._late()

    def make(self) -> Iterator[Operation]:
        """Yield what can be there before anybody looks at it."""
        family = self.family
        if self.fresh:
            yield AddTable(family)
        for name in sorted(self.new.counters - self.old.counters):
            yield AddCounter(family, name)
        sets, chains = self._early()
        yield from self._create(sets, chains)
        yield from self._fill(chains)

    def made(self) -> Table:
        """Return the table as it then is."""
        sets, chains = self._early()
        return msgspec.structs.replace(
            self.old,
            counters=self.old.counters | self.new.counters,
            sets={**self.old.sets, **{name: self.new.sets[name] for name in sets}},
            chains={**self.old.chains, **{name: self.new.chains[name] for name in chains}},
        )

    def switch(self) -> Iterator[Operation]:
        """Yield the moment itself: references go, then what they referred to, then the new comes."""
        edited = sorted(self._edited())
        yield from self._clear(edited)
        yield from self._sweep()
        late_chains = sorted(self.late_chains | self.rehooked)
        yield from self._create(sorted(self.late_sets | self.replaced), late_chains)
        yield from self._admit()
        yield from self._fill(sorted({*edited, *late_chains}))

    # the parts, in the order in which they are met

    def _early(self) -> tuple[list[str], list[str]]:
        """Return the sets and chains that can be there before the moment."""
        sets = self.new.sets.keys() - self.old.sets.keys() - self.late_sets
        chains = self.new.chains.keys() - self.old.chains.keys() - self.late_chains
        return sorted(sets), sorted(chains)

    def _create(self, sets: list[str], chains: list[str]) -> Iterator[Operation]:
        """Sets and chains, then elements, which may lead to the chains."""
        for name in sets:
            yield AddSet(self.family, name, declaration(self.new.sets[name]))
        for name in chains:
            yield AddChain(self.family, name, self.new.chains[name].hook)
        for name in sets:
            if elements := _elements(self.new.sets[name]):
                yield AddElements(self.family, name, tuple(sorted(elements)))

    def _fill(self, chains: Iterable[str]) -> Iterator[Operation]:
        for name in chains:
            if rules := self.new.chains[name].rules:
                yield FillChain(self.family, name, rules)

    def _clear(self, edited: list[str]) -> Iterator[Operation]:
        """Empty every chain that goes or changes, and take out every element that goes or leads elsewhere."""
        going = (self.old.chains.keys() - self.new.chains.keys()) | self.rehooked
        for name in sorted({*going, *edited}):
            if self.old.chains[name].rules:
                yield FlushChain(self.family, name)
        for name in sorted(self.kept_sets - self.replaced):
            yield from self._dismiss(name)
        for name in self._sets_going():
            # A map's hold on chains ends with its elements; older kernels let go of them only when told.
            if self.old.sets[name].data and self.old.sets[name].elements:
                yield FlushSet(self.family, name, is_map=True)

    def _dismiss(self, name: str) -> Iterator[Operation]:
        old, new = _elements(self.old.sets[name]), _elements(self.new.sets[name])
        gone = old - new
        if "interval" in self.new.sets[name].flags:
            # Intervals may overlap what replaces them, so a small set is better written anew.
            if old != new and old:
                yield FlushSet(self.family, name, is_map=bool(self.new.sets[name].data))
        elif gone:
            yield DeleteElements(self.family, name, tuple(sorted(gone)))

    def _admit(self) -> Iterator[Operation]:
        for name in sorted(self.kept_sets - self.replaced):
            old, new = _elements(self.old.sets[name]), _elements(self.new.sets[name])
            whole = "interval" in self.new.sets[name].flags and old != new
            if coming := new if whole else new - old:
                yield AddElements(self.family, name, tuple(sorted(coming)))

    def _sweep(self) -> Iterator[Operation]:
        for name in sorted((self.old.chains.keys() - self.new.chains.keys()) | self.rehooked):
            yield DeleteChain(self.family, name)
        for name in self._sets_going():
            yield DeleteSet(self.family, name, is_map=bool(self.old.sets[name].data))
        for name in sorted(self.old.counters - self.new.counters):
            yield DeleteCounter(self.family, name)

    def _sets_going(self) -> list[str]:
        return sorted((self.old.sets.keys() - self.new.sets.keys()) | self.replaced)

    def _edited(self) -> set[str]:
        """Chains that stay in name and hook, and whose rules must be written again."""
        staying = self.kept_chains - self.rehooked
        changed = {n for n in staying if not same_rules(self.new.chains[n], self.old.chains[n])}
        if not self.replaced:
            return changed
        # A set cannot be replaced while a rule looks at it.
        return changed | {n for n in staying - changed if sets_of(self.new.chains[n].rules) & self.replaced}

    def _late(self) -> tuple[set[str], set[str]]:
        """New sets and chains that must wait for the moment: base chains, and what leads to something replaced."""
        coming = self.new.chains.keys() - self.old.chains.keys()
        late_chains = {name for name in coming if self.new.chains[name].hook}
        late_sets: set[str] = set()
        sets, chains = set(self.replaced), set(self.rehooked)
        while sets or chains:
            found_sets = {
                name
                for name in self.new.sets.keys() - self.old.sets.keys() - late_sets
                if targets_of(_elements(self.new.sets[name])) & chains
            }
            found_chains = {name for name in coming - late_chains if self._refers(name, sets, chains)}
            late_sets |= found_sets
            late_chains |= found_chains
            sets, chains = found_sets, found_chains
        return late_sets, late_chains

    def _refers(self, chain: str, sets: set[str], chains: set[str]) -> bool:
        rules = self.new.chains[chain].rules
        return bool(sets_of(rules) & sets) or bool(chains_of(rules) & chains)


def declaration(declared: ElementSet) -> ElementSet:
    """Return a set without elements, its flags in order and with those that the kernel infers."""
    flags = {*declared.flags}
    if declared.timeout:
        flags.add("timeout")
    if declared.dynamic:
        flags.add("dynamic")
    return msgspec.structs.replace(
        declared, flags=tuple(sorted(flags)), dynamic="dynamic" in flags, elements=frozenset()
    )


def same_declaration(one: ElementSet, other: ElementSet) -> bool:
    """Compare two sets, whatever is in them."""
    alike = (one.key, one.data, one.flags, one.timeout, one.comment, one.dynamic) == (
        other.key, other.data, other.flags, other.timeout, other.comment, other.dynamic
    )  # fmt: skip
    return alike or declaration(one) == declaration(other)


def same_rules(one: Chain, other: Chain) -> bool:
    """Compare two chains by their rules' text or, as the kernel spells it in its own way, by their comments.

    Where the text is another, a rule without a comment equals no other: a chain of ours without comments would be
    written anew each time it is read; the compiler gives every rule one.
    """
    if one.rules == other.rules:
        return True
    found = [rule_comment(rule) for rule in one.rules]
    return "" not in found and found == [rule_comment(rule) for rule in other.rules]


def _elements(declared: ElementSet) -> frozenset[str]:
    """What is compared: the elements of a dynamic set are the kernel's."""
    return frozenset() if declared.dynamic or "dynamic" in declared.flags else declared.elements


def _same_hook(one: Chain, other: Chain) -> bool:
    return one.hook == other.hook or one.hook.split() == other.hook.split()
