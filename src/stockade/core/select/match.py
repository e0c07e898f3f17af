"""Does a selector match one workload, and which dimensions does it look at."""

from stockade.core.model.labels import NAME, Labels
from stockade.core.model.selector import And, Equal, Everything, Has, In, Not, Or, Selector


def matches(selector: Selector, labels: Labels, name: str) -> bool:
    """Tell whether a selector matches a *known* workload of these labels and this name.

    Whether anybody knows the workload is the caller's question: an unknown one matches nothing, not even ``all``.
    ``trusted(k = v)`` is judged as ``k = v``; ``policy.enforceable`` takes it out before a policy becomes active.
    """
    match selector:
        case Everything():
            return True
        case Equal(key, value):
            return _value(key, labels, name) == value
        case In(key, values):
            return _value(key, labels, name) in values
        case Has(key):
            return _value(key, labels, name) is not None
        case Not(of):
            return not matches(of, labels, name)
        case And(of):
            return all(matches(each, labels, name) for each in of)
        case Or(of):
            return any(matches(each, labels, name) for each in of)


def keys(selector: Selector) -> frozenset[str]:
    """Return the dimensions that a selector mentions; ``name`` is among them where it looks at names."""
    match selector:
        case Everything():
            return frozenset()
        case Equal(key) | In(key) | Has(key):
            return frozenset((key,))
        case Not(of):
            return keys(of)
        case And(of) | Or(of):
            return frozenset[str]().union(*map(keys, of))


def _value(key: str, labels: Labels, name: str) -> str | None:
    return name if key == NAME else labels.get(key)
