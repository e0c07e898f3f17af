"""Docker: containers and bridges, as its engine tells them over its Unix socket.

Promises: every container of the engine is listed first and followed after, and none is missed between, across a
reconnect, or while the reader was slow. Never changes anything in the engine: every request is a GET.
"""

from stockade.adapters.docker.api import EngineSettings, engine_socket
from stockade.adapters.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime", "EngineSettings", "engine_socket"]
