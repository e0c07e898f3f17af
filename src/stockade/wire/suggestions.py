"""Suggested policy over the HTTP API: drafts with what they rest on, and recorded flows under a draft."""

import msgspec

from stockade.core.model.ids import RuleId
from stockade.wire.api import Message


class SuggestRequest(Message, frozen=True, kw_only=True):
    """What to suggest a policy for, from the flows of a time (seconds since the epoch). ``name``: the policy's.

    ``within``: what the selector selects may talk to itself (a ringfence). ``enforce``: a mode makes it count.
    ``tighten``: narrow the live policy of that name to what was used of it; the selector does not count then.
    """

    name: str
    since: float
    until: float | None = None
    selector: str = ""
    within: bool = False
    enforce: bool = False
    tighten: bool = False


class RuleView(msgspec.Struct, frozen=True):
    """A rule and what it rests on. ``flows`` are pairs of ends on a port; ``opens``: what else it means, not seen.

    ``before`` is the rule that a tightening narrows, as text; ``text`` is empty where nothing of it was used.
    """

    rule: RuleId
    text: str
    before: str = ""
    flows: int = 0
    connections: int = 0
    first: float | None = None
    last: float | None = None
    processes: tuple[str, ...] = ()
    opens: str = ""


class LeftOutView(msgspec.Struct, frozen=True):
    """Traffic that was seen and is not suggested. ``open``: something else in the draft allows it all the same."""

    source: str
    destination: str
    on: str
    connections: int
    reason: str
    detail: str = ""
    open: bool = False


class Share(msgspec.Struct, frozen=True):
    """``count`` of ``of``, and a 95 % confidence interval for the share behind it."""

    count: int
    of: int
    low: float
    high: float


class SuggestReply(Message, frozen=True, kw_only=True):
    """A draft: the ``text`` of one policy file, and how far to trust it.

    ``covered`` of the connections seen are allowed by it. ``denied``: rules learnt from the first three quarters of the
    time would have denied so many of the flows of the rest; None where the time does not suffice. ``new``: how
    probable it is that the next connection is of a kind not seen yet. ``partial_before``: before then not all is kept.
    """

    text: str
    rules: tuple[RuleView, ...]
    within: bool = False
    """A ringfence: the text has one more rule, by which what was selected may talk to itself."""
    left_out: tuple[LeftOutView, ...] = ()
    since: float
    until: float
    recorded: int = 0
    covered: Share | None = None
    denied: Share | None = None
    new: float | None = None
    partial_before: float | None = None
