"""Podman: the containers of root and of every user who runs some, as ``podman`` tells them.

Promises: every container is listed first and followed after, and none is missed between, or while ``podman events``
had to be started anew. Never changes anything: ``podman`` is asked to ``ps``, ``inspect`` and tell its ``events``, by
whom the containers belong to and nobody else.
"""

from stockade.adapters.podman.asking import PodmanSettings, program
from stockade.adapters.podman.runtime import PodmanRuntime
from stockade.adapters.podman.users import accounts
from stockade.adapters.podman.using import used

__all__ = ["PodmanRuntime", "PodmanSettings", "accounts", "program", "used"]
