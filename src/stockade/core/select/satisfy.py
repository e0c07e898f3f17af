"""Could any workload, present or future, match a selector?

A backtracking search over the dimensions it mentions, each with the values that it mentions, one value that it does
not, and absence. The question is NP-complete, so the search is bounded, and where the bound is met the answer is yes:
whoever asks must take "perhaps" for "yes".
"""

from collections.abc import Mapping

from stockade.core.model.labels import NAME
from stockade.core.model.selector import And, Equal, Everything, Has, In, Not, Or, Selector

STEP_LIMIT = 10_000
"""Partial labellings that are tried before the answer is "perhaps", which is yes."""


def satisfiable(selector: Selector) -> bool:
    """Tell whether some workload could match. Exact for all but huge selectors, then True (``STEP_LIMIT``)."""
    domains: dict[str, set[str]] = {}
    _mentioned(selector, domains)
    order = sorted(domains, key=lambda key: (len(domains[key]), key))
    return _Search(selector, [(key, _choices(key, domains[key])) for key in order]).found({}, 0)


def _choices(key: str, values: set[str]) -> list[str | None]:
    """Return every value that makes a difference; the longest one stands for all that are not mentioned."""
    fresh = "x" * (1 + max(map(len, values), default=0))
    return [*sorted(values), fresh] if key == NAME else [*sorted(values), fresh, None]


def _mentioned(selector: Selector, domains: dict[str, set[str]]) -> None:
    match selector:
        case Equal(key, value):
            domains.setdefault(key, set()).add(value)
        case In(key, values):
            domains.setdefault(key, set()).update(values)
        case Has(key):
            domains.setdefault(key, set())
        case Not(of):
            _mentioned(of, domains)
        case And(of) | Or(of):
            for each in of:
                _mentioned(each, domains)
        case Everything():
            pass


class _Search:
    def __init__(self, selector: Selector, choices: list[tuple[str, list[str | None]]]) -> None:
        self.selector = selector
        self.choices = choices
        self.steps = 0

    def found(self, chosen: dict[str, str | None], depth: int) -> bool:
        """Tell whether the choices made so far can be completed to a match."""
        self.steps += 1
        if self.steps > STEP_LIMIT:
            return True
        answer = _judged(self.selector, chosen)
        if answer is not None:
            return answer
        key, values = self.choices[depth]
        return any(self.found({**chosen, key: value}, depth + 1) for value in values)


def _judged(selector: Selector, chosen: Mapping[str, str | None]) -> bool | None:
    """Judge under a partial labelling; None where it depends on what was not chosen yet."""
    match selector:
        case Everything():
            return True
        case Equal(key, value):
            return chosen[key] == value if key in chosen else None
        case In(key, values):
            return chosen[key] in values if key in chosen else None
        case Has(key):
            return chosen[key] is not None if key in chosen else None
        case Not(of):
            inner = _judged(of, chosen)
            return None if inner is None else not inner
        case And(of):
            answers = [_judged(each, chosen) for each in of]
            return False if False in answers else None if None in answers else True
        case Or(of):
            answers = [_judged(each, chosen) for each in of]
            return True if True in answers else None if None in answers else False
