"""Whose a network namespace is, as the kernel knows it: the user who made the user namespace that it belongs to."""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

NS_GET_USERNS = 0xB701
NS_GET_OWNER_UID = 0xB704
"""``ioctl_ns(2)``; Python does not name them."""


@contextlib.contextmanager
def owned(path: Path, uid: int) -> Iterator[Path]:
    """Hold a namespace that a user made; yield a path to it that stays true. ``OSError`` where it is another's."""
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if owner(namespace) != uid:
            raise OSError(f"{path} is not a network namespace of user {uid}")
        yield Path(f"/proc/self/fd/{namespace}")
    finally:
        os.close(namespace)


def owner(namespace: int) -> int:
    """Return the uid of who owns an open namespace."""
    users = fcntl.ioctl(namespace, NS_GET_USERNS)
    try:
        (uid,) = struct.unpack("=I", fcntl.ioctl(users, NS_GET_OWNER_UID, bytes(4)))
    finally:
        os.close(users)
    return int(uid)
