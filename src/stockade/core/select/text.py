"""Selectors → their canonical text, and their normal form."""

from collections.abc import Iterable

from stockade.core.model.selector import And, Equal, Everything, Has, In, Not, Or, Selector
from stockade.core.select.words import written


def text(selector: Selector) -> str:
    """Return the canonical text: ``parse(text(s)) == s`` for every normal ``s``. It holds nothing unprintable."""
    match selector:
        case Equal(key, value, trusted):
            return f"trusted({key} = {written(value)})" if trusted else f"{key} = {written(value)}"
        case And(of):
            return " and ".join([_enclosed(each, Or) for each in of])
        case Or(of):
            return " or ".join(map(text, of))
        case Not(of):
            return _negated(of)
        case Everything():
            return "all"
        case Has(key):
            return f"has {key}"
        case In(key, values):
            return f"{key} in ({', '.join(map(written, values))})"


def normal(selector: Selector) -> Selector:
    """Return the same selector as ``parse`` would: nested ``and``s and ``or``s joined, values sorted and distinct."""
    match selector:
        case Equal() | Has() | Everything():
            return selector
        case And(of):
            return joined(And, map(normal, of))
        case Or(of):
            return joined(Or, map(normal, of))
        case Not(of):
            return Not(normal(of))
        case In(key, values):
            return In(key, tuple(sorted(set(values))))


def joined(kind: type[And | Or], terms: Iterable[Selector]) -> Selector:
    """Return one ``kind`` of all terms, those of the same kind taken apart; a lone term is itself."""
    flat: list[Selector] = []
    for term in terms:
        flat += term.of if isinstance(term, kind) else (term,)
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


def _negated(selector: Selector) -> str:
    match selector:
        case Equal(key, value, trusted) if not trusted:
            return f"{key} != {written(value)}"
        case In(key, values):
            return f"{key} not in ({', '.join(map(written, values))})"
    return "not " + _enclosed(selector, And, Or)


def _enclosed(selector: Selector, *kinds: type[And | Or]) -> str:
    return f"({text(selector)})" if isinstance(selector, kinds) else text(selector)
