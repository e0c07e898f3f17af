"""Who is behind each term: its workloads' addresses as hosts beyond their own meet them, gathered once for all hosts.

An address set is gathered when it is first asked for, and again once the ledger's sum for it has moved.
"""

from collections import defaultdict

from stockade.core.compile.addresses import met_everywhere
from stockade.core.compile.claims import Claims
from stockade.core.compile.ledger import Ledger
from stockade.core.compile.population import Population
from stockade.core.compile.rulebook import Rulebook, Term
from stockade.core.model.ids import Address
from stockade.core.model.inventory import Workload


class Gathering:
    """The address sets of one rulebook's terms, by name."""

    def __init__(self, book: Rulebook, population: Population, claims: Claims, ledger: Ledger) -> None:
        self._terms = book.terms
        self._population = population
        self._claims = claims
        self._ledger = ledger
        self._names: defaultdict[int, list[str]] = defaultdict(list)
        """The terms of each selector, by its number."""
        self._gathered: dict[str, tuple[int, tuple[Address, ...]]] = {}
        for name, term in book.terms.items():
            self._names[population.matching.number[term.selector]].append(name)

    def of(self, name: str) -> tuple[Address, ...]:
        """Return the addresses of a term's workloads, sorted, less those that are in dispute."""
        total = self._ledger.total_of(name)
        known = self._gathered.get(name)
        if known is None or known[0] != total:
            known = self._gathered[name] = (total, self._gather(self._terms[name]))
        return known[1]

    def naming(self, workload: Workload) -> list[str]:
        """Return the names of the terms that mean a workload."""
        number = self._population.identity(workload.id)
        if number is None:
            return []
        names = [name for selector in self._population.speaking(number) for name in self._names.get(selector, ())]
        return [name for name in names if not self._terms[name].adrift or self._population.adrift(workload)]

    def _gather(self, term: Term) -> tuple[Address, ...]:
        disputed = self._claims.disputed
        met = (address for workload in self._population.meant(term) for address in met_everywhere(workload))
        return tuple(sorted({address for address in met if address not in disputed}))
