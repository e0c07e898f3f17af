"""Names of things. Each is a plain string or number that only its own kind may stand for."""

from typing import NewType

WorkloadId = NewType("WorkloadId", str)
"""Stable for one life of a workload, e.g. ``docker:host-a:3f2a9c…``."""

DECLARED = "workload:"
"""How the ids of workloads that policy documents declare begin, and no others: no source may report one."""

HostId = NewType("HostId", str)

Realm = NewType("Realm", str)
"""A network in which addresses are unique, e.g. ``host-a/docker0``; ``""`` is the underlay that hosts share."""

RuleId = NewType("RuleId", str)
"""``policy/rule``, as a user types it back."""

ProgramId = NewType("ProgramId", str)
"""Content hash of a program: equal content, equal id."""

Address = NewType("Address", str)
"""One IPv4 or IPv6 address in its canonical text (RFC 5952 for IPv6)."""

Prefix = NewType("Prefix", str)
"""A CIDR prefix in canonical text, host bits zero, e.g. ``10.0.0.0/8``."""

Revision = NewType("Revision", int)
"""Number of a snapshot; grows by one with each event."""

Version = NewType("Version", int)
"""Number of an applied policy; 0 is the built-in policy of a new installation."""

CheckId = NewType("CheckId", str)
"""What judged something, e.g. ``tc-filters``; each has its section in ``docs/findings.md``."""

FindingId = NewType("FindingId", str)
"""Short for a host, a check and an object: the same for as long as these are, and again when they come again."""
