"""The kernel's own census: every network namespace of this host but its own, whoever made it.

Promises: what any process lives in, and what any mount, link or open file keeps, is found within a second or two, at a
cost that is bounded however many processes there are. Never keeps a namespace alive, enters none to stay, signals
nobody.
"""

from stockade.adapters.namespaces.census import Settings
from stockade.adapters.namespaces.listening import Sockets
from stockade.adapters.namespaces.machines import MachinesRuntime
from stockade.adapters.namespaces.programs import KnownPrograms, Room, Rooms
from stockade.adapters.namespaces.runtime import NamespacesRuntime, Whereabouts

__all__ = [
    "KnownPrograms",
    "MachinesRuntime",
    "NamespacesRuntime",
    "Room",
    "Rooms",
    "Settings",
    "Sockets",
    "Whereabouts",
]
