"""How the birth gate is put into runtimes' configuration, and taken out of it. One module a runtime.

Texts in, texts out: ``put`` gives every file as it is to be, ``take`` as it was without the gate (None: no such file).
Both leave alone what is not theirs, and give back unchanged what needs no change.
"""

from stockade.core.gate import cni, containerd, docker, hooks, nri
from stockade.core.gate.values import Call, CannotEdit, Files, Target

TARGETS: dict[str, Target] = {
    each.name: each for each in (*docker.TARGETS, *hooks.TARGETS, *containerd.TARGETS, *cni.TARGETS, *nri.TARGETS)
}
"""By the name that ``stockade gate install`` takes."""

__all__ = ["TARGETS", "Call", "CannotEdit", "Files", "Target"]
