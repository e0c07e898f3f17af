"""The controller's parts as they are in a real installation: each from the core, fitted to ``Parts``."""

from collections.abc import Callable, Sequence

from stockade.controller.compiling import Compiling, check
from stockade.controller.parts import Draft, Parts
from stockade.controller.refused import Refused, Why
from stockade.core import policy
from stockade.core.compile.nft.render import render
from stockade.core.model.net import Ports
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.explain import explain
from stockade.core.plan.plan import plan
from stockade.core.plan.reach import reach
from stockade.core.plan.values import Explanation, Plan
from stockade.seams.store import SourceFile
from stockade.wire.api import Check


def standard_parts(key: bytes, doctor: Callable[[], Sequence[Check]]) -> Parts:
    """Return the parts. ``key`` keys the fingerprints of intents; it stays the same for an installation."""
    return Parts(
        read=read,
        compile=Compiling(key),
        check=check,
        plan=planned,
        explain=explained,
        reach=reach,
        render=render,
        doctor=doctor,
    )


def read(files: Sequence[SourceFile]) -> Draft:
    """Read files as one draft, complete it with what is built in, and take out what cannot be enforced."""
    draft = policy.read(policy.SourceText(each.name, each.text.encode()) for each in files)
    kept, narrower = policy.enforceable(policy.complete(draft.policy))
    return Draft(
        policy=kept,
        canonical=policy.to_documents(kept),
        hash=policy.content_hash(draft.policy),
        problems=draft.problems,
        narrower=narrower,
    )


def planned(active: Snapshot, wanted: Snapshot, draft: Draft, pairs: int) -> Plan:
    """Compare the active policy with the draft."""
    return plan(active, wanted, pairs=pairs, unenforceable=draft.narrower)


def explained(snapshot: Snapshot, source: str, destination: str, on: str) -> Explanation:
    """Explain one connection. ``on`` is a port as policy writes it, or the name of a service of one port."""
    return explain(snapshot, source, destination, point(snapshot, on))


def point(snapshot: Snapshot, on: str) -> Ports:
    """Return the one port that a text means. ``Refused`` where it means none, or several."""
    named = next((each.ports for each in snapshot.policy.services if each.name == on), None)
    ports = named if named is not None else (_written(on),)
    if len(ports) != 1 or not _single(ports[0]):
        texts = ", ".join(map(policy.ports_text, ports))
        raise Refused(Why.INVALID, f"{on} is more than one port ({texts})", remedy="Ask about one, e.g. tcp/443.")
    return ports[0]


def _single(ports: Ports) -> bool:
    """Tell whether a range is one point; a protocol without ports is one too."""
    return ports.first == ports.last or (ports.first, ports.last) == (0, 65535) or ports.last - ports.first == 255


def _written(text: str) -> Ports:
    try:
        return policy.ports_of(text)
    except policy.WordError as problem:
        near = f"; did you mean {problem.nearest}?" if problem.nearest else ""
        raise Refused(Why.INVALID, f"{problem.message}{near}", remedy=f"Give {problem.expected}.") from problem
