"""Findings that somebody accepts: set aside, never hidden; undone by their users, by their time, or by what is found.

A waiver is of what was found when it was made. Once more is found of the same, or worse, it is no longer accepted
and nobody has to notice that: it is among the open ones again. It allows nothing, and nothing is learnt from it.
"""

from stockade.controller.findings import ACCEPTED, REOPENED, accepted_target, reopened
from stockade.controller.loop import ITSELF, Controller
from stockade.controller.refused import Refused, Why, unknown
from stockade.core.model.finding import Waiver, parts
from stockade.seams.store import Commit, Entry
from stockade.wire.api import AcceptRequest, Caller, ReopenRequest

LONGEST = 1000
"""Characters of a reason."""
MOST = 10_000
"""Waivers at once."""
FARTHEST = 100 * 365 * 86400.0
"""Seconds from now until when one may last that does not last for good."""


async def accept(controller: Controller, request: AcceptRequest, by: Caller) -> Waiver:
    """Accept a finding that is open, or accept it anew."""
    return await controller.exclusively(lambda: _accept(controller, request, by))


async def reopen(controller: Controller, request: ReopenRequest, by: Caller) -> Waiver:
    """Take a waiver back; return it as it was."""
    return await controller.exclusively(lambda: _reopen(controller, request, by))


async def lapse(controller: Controller) -> None:
    """End the waivers whose time is over."""
    if controller.findings.lapsed(controller.clock.now()):
        await controller.exclusively(lambda: _lapse(controller))


async def _accept(controller: Controller, request: AcceptRequest, by: Caller) -> Waiver:
    why, now = _reason(request.why), controller.clock.now()
    if request.until is not None and not now < request.until <= now + FARTHEST:
        raise Refused(
            Why.INVALID,
            "a waiver must end later than now, and within a hundred years",
            remedy="Or leave it out: it is for good.",
        )
    found = controller.findings.find(request.id)
    if found is None:
        raise unknown("open finding", request.id, "`stockade findings` lists them, each with its id.")
    if len(controller.findings.accepted) >= MOST and request.id not in controller.findings.accepted:
        raise Refused(
            Why.CONFLICT, f"{MOST} findings are accepted already", remedy="Reopen some, or mend what they say."
        )
    host, each = found
    made = Waiver(
        request.id, host, each.check, each.object, each.severity, parts(each), by.name, now, why, request.until
    )
    await controller.commit(Commit(accepted=(made,), audit=(_entry(by, ACCEPTED, made, why),)))
    controller.findings.accept(made)
    controller.changed.ring()
    return made


async def _reopen(controller: Controller, request: ReopenRequest, by: Caller) -> Waiver:
    known = controller.findings.accepted.get(request.id)
    if known is None:
        raise unknown("accepted finding", request.id, "`stockade findings --accepted` lists them.")
    audit = (_entry(by, REOPENED, known, request.why.strip()[:LONGEST]),)
    await controller.commit(Commit(reopened=(known.id,), audit=audit))
    controller.findings.reopen((known,))
    controller.changed.ring()
    return known


async def _lapse(controller: Controller) -> None:
    over = controller.findings.lapsed(controller.clock.now())
    audit = tuple(reopened(each, "its time is over", ITSELF) for each in over)
    await controller.commit(Commit(reopened=tuple(each.id for each in over), audit=audit))
    controller.findings.reopen(over)
    controller.changed.ring()


def _reason(text: str) -> str:
    why = " ".join(text.split())
    if not why:
        raise Refused(Why.INVALID, "why is it accepted?", remedy="Give a reason, for whoever reads it later.")
    if len(why) > LONGEST:
        raise Refused(Why.INVALID, f"a reason has {LONGEST} characters at most", remedy="Say it shorter.")
    return why


def _entry(by: Caller, action: str, which: Waiver, detail: str) -> Entry:
    return Entry(by.name, action, accepted_target(which), detail=detail, uid=by.uid)
