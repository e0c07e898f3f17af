"""An edge of the map → the policy that closes it, or allows it: a draft like any other, with a name of its own.

Closing denies whatever else allows it, and adds a mode where nothing would enforce that. Allowing opens what was asked
for and nothing more; where nothing is enforced it changes nothing, and the plan says so.
"""

from collections.abc import Iterable

import msgspec

from stockade.core import policy as documents
from stockade.core import select
from stockade.core.compile.population import mode_of
from stockade.core.compile.rulebook import rulebook
from stockade.core.model.ids import RuleId
from stockade.core.model.policy import (
    Action,
    End,
    EnforcementMode,
    Mode,
    Networks,
    Policy,
    PolicySet,
    Rule,
    Selected,
    ServiceRef,
)
from stockade.core.model.selector import Selector
from stockade.core.model.snapshot import Snapshot
from stockade.core.policy.words import NAME_LIMIT, name_like

LAX = (Mode.IDLE, Mode.VISIBILITY)


class Turned(msgspec.Struct, frozen=True):
    """A policy by name, and the text of its file."""

    name: str
    policy: PolicySet
    text: str


def closing(snapshot: Snapshot, source: End, destination: End, on: tuple[ServiceRef, ...]) -> Turned:
    """Return a policy that denies connections from one end to the other."""
    name = _name("close", source, destination)
    made = _ruled(name, Action.OVERRIDE_DENY, source, destination, on)
    end = destination if isinstance(destination, Selected) else source
    if isinstance(end, Selected) and _lax(snapshot, end.selector):
        others = (each.priority for each in snapshot.policy.modes if each.name != name)
        mode = EnforcementMode(name, end.selector, Mode.SELECTIVE, priority=max([0, *others]) + 10)
        made = msgspec.structs.replace(made, modes=(mode,))
    return Turned(name, made, documents.to_documents(made))


def opening(source: End, destination: End, on: tuple[ServiceRef, ...]) -> Turned:
    """Return a policy that allows connections from one end to the other."""
    name = _name("allow", source, destination)
    made = _ruled(name, Action.ALLOW, source, destination, on)
    return Turned(name, made, documents.to_documents(made))


def _ruled(name: str, action: Action, source: End, destination: End, on: tuple[ServiceRef, ...]) -> PolicySet:
    rule = Rule(RuleId(f"{name}/edge"), action, source, destination, on)
    return PolicySet(policies=(Policy(name, (rule,)),))


def _lax(snapshot: Snapshot, selector: Selector) -> bool:
    """Tell whether some workload that is meant would not enforce a denial."""
    book = rulebook(snapshot.policy, snapshot.lapsed)
    meant = (each for each in snapshot.workloads.values() if select.matches(selector, each.labels, each.name))
    return any(mode_of(book, each.labels, each.name) in LAX for each in meant)


def _name(what: str, source: End, destination: End) -> str:
    words = name_like("-".join((what, *_words(source), "to", *_words(destination))))
    return words[:NAME_LIMIT].strip("-.") or what


def _words(end: End) -> Iterable[str]:
    if isinstance(end, Networks):
        return end.names
    text = select.text(end.selector)
    return [part.rpartition("= ")[2].strip('"') for part in text.split(" and ") if "= " in part] or ["all"]
