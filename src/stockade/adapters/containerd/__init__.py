"""containerd: containers and pods of all its namespaces, as it tells them over its Unix socket.

Promises: every container is listed first and followed after, and none is missed between, across a reconnect, or while
the reader was slow. Never changes anything in containerd: every request reads.
"""

from stockade.adapters.containerd.api import DEFAULT_SOCKET, ContainerdSettings
from stockade.adapters.containerd.runtime import ContainerdRuntime

__all__ = ["DEFAULT_SOCKET", "ContainerdRuntime", "ContainerdSettings"]
