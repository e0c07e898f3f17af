"""What a process must be able to do before it can build a lab, and how it gets there without root."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from stockade.testing.lab.topology import LabError

NEEDED = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}
EVERYBODY = ["0", "0", "4294967295"]
"""The map of user ids of the machine itself: each is itself."""
ENTERED = "STOCKADE_LAB_ENTERED"
"""Set in the environment of a process that has been started again, so that it never tries twice."""

SWITCHES = {
    "kernel/unprivileged_userns_clone": ("0", "1"),
    "user/max_user_namespaces": ("0", "10000"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
}
"""Setting → (the value that forbids user namespaces, one that allows them)."""


def enter() -> None:
    """Make this process able to build a lab; return when it is.

    Root is able already: a lab's links and rules live in namespaces of the lab's own, and the caller's namespaces are
    never changed. Anybody else is started again, with the same arguments, as root of a user namespace, and so this
    must be called before there is anything to lose. Raises ``LabError`` that names the setting where the kernel
    forbids it.
    """
    if able():
        return
    if os.environ.get(ENTERED) or (reason := why_not()):
        reason = "this process has no rights over networks, although it is root of a user namespace" \
            if os.environ.get(ENTERED) else reason  # fmt: skip
        raise LabError(f"no lab can be built: {reason}", kept="nothing was changed", remedy=remedy())
    command = ["unshare", "-Urnm", "--", sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe("unshare", command, {**os.environ, ENTERED: "1"})


def entered() -> bool:
    """Tell whether this process lives in a user namespace."""
    return Path("/proc/self/uid_map").read_text(encoding="ascii").split() != EVERYBODY


def able() -> bool:
    """Tell whether this process may make network namespaces and links."""
    effective = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("CapEff:")
    )
    return all(effective >> bit & 1 for bit in NEEDED.values())


def why_not() -> str:
    """Say why this process cannot become root of a user namespace; empty where it can."""
    if shutil.which("unshare") is None:
        return "the program unshare (util-linux) is not installed"
    done = subprocess.run(["unshare", "-Urnm", "true"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"this kernel forbids user namespaces ({done.stderr.strip()})"


def remedy(root: Path = Path("/proc/sys")) -> str:
    """Return what to do about it: the settings that stand in the way here, or else root."""
    closed = [
        f"{path.replace('/', '.')}={allowing}"
        for path, (forbidding, allowing) in SWITCHES.items()
        if _value(root / path) == forbidding
    ]
    if closed:
        return f"run as root, or once: sudo sysctl -w {' '.join(closed)}"
    return (
        "run as root; no setting that Stockade knows of (kernel.unprivileged_userns_clone, user.max_user_namespaces, "
        "kernel.apparmor_restrict_unprivileged_userns) forbids it here, so a container's seccomp profile may"
    )


def _value(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
