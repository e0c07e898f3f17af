"""What a host's kernel and files hold besides ours, judged: can it lead traffic past our tables, or change them?

Facts in, findings out, sorted. What could not be read is *not assessed*, never clean. ``docs/findings.md`` has every
check; ADR 0012 says what counts as a way past and what does not.
"""

from stockade.core.posture.host.assess import CHECKS, assess
from stockade.core.posture.host.facts import (
    Act,
    BaseChain,
    BridgeSeen,
    Does,
    Facts,
    FileSeen,
    FileUse,
    ForeignTable,
    LinkPort,
    LocalRoute,
    Program,
    ProgramKind,
    RoutingRule,
    TrafficAct,
    Unread,
)

__all__ = [
    "CHECKS",
    "Act",
    "BaseChain",
    "BridgeSeen",
    "Does",
    "Facts",
    "FileSeen",
    "FileUse",
    "ForeignTable",
    "LinkPort",
    "LocalRoute",
    "Program",
    "ProgramKind",
    "RoutingRule",
    "TrafficAct",
    "Unread",
    "assess",
]
