"""``mode``: one ``EnforcementMode`` document as a policy file of its own, beside what is active. Pure."""

import hashlib
import json
import re

from stockade.controller.refused import Refused, Why
from stockade.core import select
from stockade.core.model.policy import DEFAULT_MODE, PolicySet
from stockade.errors import StockadeError
from stockade.seams.store import SourceFile
from stockade.wire.api import ModeRequest

PREFIX = "mode-"
API = "stockade.dev/v1"


def mode_file(request: ModeRequest, active: PolicySet) -> SourceFile:
    """Return the file. The same selector, however it is spelt, always has the same name, so that it replaces itself."""
    selector = _canonical(request.select)
    name = PREFIX + _slug(selector)
    spec: dict[str, object] = {"select": selector, "mode": request.mode.value}
    spec["priority"] = _above(active, name) if request.priority is None else request.priority
    if request.births is not None:
        spec["births"] = request.births.value
    # JSON is YAML, and quotes whatever a selector may hold.
    lines = (
        f"apiVersion: {API}",
        "kind: EnforcementMode",
        f"metadata: {json.dumps({'name': name})}",
        f"spec: {json.dumps(spec, ensure_ascii=False)}",
    )
    return SourceFile(f"{name}.yaml", "\n".join(lines) + "\n")


def _canonical(text: str) -> str:
    try:
        return select.text(select.parse(text))
    except StockadeError as problem:
        raise Refused(Why.INVALID, problem.message, remedy=problem.remedy) from problem


def _slug(selector: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", selector.lower()).strip("-")[:32].strip("-")
    return f"{words or 'x'}-{hashlib.sha256(selector.encode()).hexdigest()[:6]}"


def _above(active: PolicySet, name: str) -> int:
    """Return the lowest priority that beats every other mode."""
    others = [each.priority for each in active.modes if each.name not in (name, DEFAULT_MODE)]
    return max(others, default=0) + 1 if others else 0
