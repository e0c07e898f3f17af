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


def keys(*selectors: Selector) -> frozenset[str]:
    """Return the dimensions that selectors mention; ``name`` is among them where one looks at names."""
    found: set[str] = set()
    for each in selectors:
        _mention(each, found)
    return frozenset(found)


def _mention(selector: Selector, found: set[str]) -> None:
    match selector:
        case Equal(key) | In(key) | Has(key):
            found.add(key)
        case And(of) | Or(of):
            for each in of:
                _mention(each, found)
        case Not(of):
            _mention(of, found)
        case Everything():
            pass


def _value(key: str, labels: Labels, name: str) -> str | None:
    return name if key == NAME else labels.get(key)
