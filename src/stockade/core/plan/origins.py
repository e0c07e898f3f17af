"""Where a label comes from, in words: the fact that it was made of, who reported that, and the rule that made it.

Says nothing that the snapshot does not hold: where no one fact made a label, its rule and source are all that is said.
"""

import re

from stockade.core.fold.declared import declared_id, is_declared, written
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import Label, LabelSource
from stockade.core.model.policy import LabelRule
from stockade.core.model.snapshot import Snapshot

FAMILIAR = {
    "label:com.docker.compose.project": "Compose project",
    "label:com.docker.compose.service": "Compose service",
}
"""Facts that users know under a name of their own."""
_ONE_FACT = re.compile(r"\{([^{}]+)\}")


def origin(snapshot: Snapshot, workload: Workload, label: Label) -> str:
    """Return where a workload's label comes from, as it reads after the label itself."""
    if label in written_labels(snapshot, workload):
        return f"from its document, {label.by}"
    if label.source is LabelSource.OPERATOR:
        return f"from {label.by}, an operator" if label.by else "from an operator"
    rule = _rule(snapshot, label)
    fact = _fact(rule, label, workload) if rule else ""
    if rule is None or not fact:
        return f"from {_whose(label.source)}" + (f", by rule {label.by}" if label.by else "")
    by = f", by rule {rule.name}" if rule.where.line else ""
    return f"from {fact}{_reporter(workload)}{by}"


def written_labels(snapshot: Snapshot, workload: Workload) -> tuple[Label, ...]:
    """Return the labels that a workload's own document gives it; none where no document declares it."""
    if not is_declared(workload.id):
        return ()
    own = (each for each in snapshot.policy.workloads if declared_id(each) == workload.id)
    return tuple(label for document in own for label in written(document))


def _rule(snapshot: Snapshot, label: Label) -> LabelRule | None:
    return next((each for each in snapshot.policy.label_rules if each.name == label.by), None)


def _whose(source: LabelSource) -> str:
    return {LabelSource.RULE: "policy", LabelSource.SELF: "itself"}.get(source, f"the {source.value}")


def _fact(rule: LabelRule, label: Label, workload: Workload) -> str:
    """Return the one fact that a label's value was copied from; empty where there is not just one."""
    for key, template in rule.set:
        single = _ONE_FACT.fullmatch(template)
        prefix = _starred(key)
        if single and prefix is not None and template == key:
            fact = f"label:{prefix}{label.key}"
        elif single and key == label.key:
            fact = single[1]
        else:
            continue
        if _reported(workload, fact) == label.value:
            return _words(fact, label.value)
    return ""


def _reported(workload: Workload, fact: str) -> str | None:
    facts, (kind, _, key) = workload.seen.facts, fact.partition(":")
    found: dict[str, str | None] = {
        "label": dict(facts.labels).get(key),
        "tag": dict(facts.tags).get(key),
        "image": facts.image,
        "namespace": facts.namespace,
        "runtime": facts.runtime,
        "host": facts.host_name,
        "name": workload.name,
        "kind": workload.seen.kind.value,
    }
    return found.get(kind)


def _starred(key: str) -> str | None:
    """Return the prefix of ``{label:PREFIX*}``."""
    return key[len("{label:") : -len("*}")] if key.startswith("{label:") and key.endswith("*}") else None


def _words(fact: str, value: str) -> str:
    if fact in FAMILIAR:
        return f'{FAMILIAR[fact]} "{value}"'
    kind, colon, key = fact.partition(":")
    return f"its {kind} {key}" if colon else f"its {kind}"


def _reporter(workload: Workload) -> str:
    runtime, host = workload.seen.facts.runtime, workload.seen.host
    if runtime and host and runtime != "host":
        return f" ({runtime} on {host})"
    return f" ({runtime or host})" if runtime or host else ""
