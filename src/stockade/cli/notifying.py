"""What a service tells the manager that started it (systemd's ``sd_notify``): a datagram to a socket it names.

Started by anybody else there is no such socket, and nothing is said. Never fails: a manager that cannot be told finds
out by itself.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


def tell_manager(word: str, environment: Mapping[str, str] = os.environ) -> None:
    """Tell the manager, if there is one, that the service is ``READY=1`` or ``STOPPING=1``."""
    path = environment.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = b"\0" + os.fsencode(path[1:]) if path.startswith("@") else os.fsencode(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling, suppress(OSError):
        telling.sendto(word.encode(), address)
