"""Real network namespaces to try Stockade in, built with root or without, from values; nothing of them is left behind.

Begin with ``enter()``, then ``async with Lab(topology) as lab``.
"""

from stockade.testing.lab.entry import able, enter
from stockade.testing.lab.facts import workload_id
from stockade.testing.lab.lab import Lab
from stockade.testing.lab.namespaces import Command, Done
from stockade.testing.lab.posts import Posts
from stockade.testing.lab.topology import (
    LabBridge,
    LabError,
    Link,
    Node,
    Topology,
    bridged,
    lab_bridge,
    outside,
    routed,
)

__all__ = [
    "Command",
    "Done",
    "Lab",
    "LabBridge",
    "LabError",
    "Link",
    "Node",
    "Posts",
    "Topology",
    "able",
    "bridged",
    "enter",
    "lab_bridge",
    "outside",
    "routed",
    "workload_id",
]
