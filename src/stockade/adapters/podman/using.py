"""Whether Podman is used on this machine, told without asking it: a first question would make its folders."""

from pathlib import Path

from stockade.adapters.podman.asking import program
from stockade.adapters.podman.users import accounts

SOCKET = "run/podman/podman.sock"
SINCE_BOOT = "run/libpod"
KEPT = "var/lib/containers/storage/*-containers/*/userdata"


def used(root: Path = Path("/")) -> bool:
    """Tell whether Podman is installed, and has a socket, a container of root's, or one of a user's that runs."""
    if not program():
        return False
    by_root = (root / SOCKET).exists() or (root / SINCE_BOOT).is_dir() or any(root.glob(KEPT))
    return by_root or bool(accounts(root / "proc", root / "proc" / "self"))
