"""Labels and who set them (``docs/policy.md``, 7)."""

import enum

import msgspec


class LabelSource(str, enum.Enum):
    """Who set a label, most trusted first."""

    OPERATOR = "operator"
    RULE = "rule"
    CLUSTER = "cluster"
    CLOUD = "cloud"
    RUNTIME = "runtime"
    SELF = "self"


class Label(msgspec.Struct, frozen=True, gc=False, order=True):
    """``key=value``; ``source`` says whose word it is and ``by`` names the rule or person that set it."""

    key: str
    value: str
    source: LabelSource = LabelSource.OPERATOR
    by: str = ""


class Labels(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """The labels in force on a workload: one per key, sorted by key.

    ``name`` is never among them: it is the workload's own name, and selectors read it from there.
    """

    items: tuple[Label, ...] = ()

    def get(self, key: str) -> str | None:
        """Return the value of ``key``, or None where the label is absent."""
        for label in self.items:
            if label.key == key:
                return label.value
        return None


NO_LABELS = Labels()
NAME = "name"
"""The dimension that every workload has: its own name."""
