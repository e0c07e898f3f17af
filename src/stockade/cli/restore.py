"""``stockade restore``: at boot, before the network is up, what was in force last is in force again.

It waits for nobody: no server, no network, no runtime. It never closes a host that was opened in an emergency, and
never touches what a living ``stockade up`` sees to.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path

from stockade.cli.exits import Exit
from stockade.cli.output import remark
from stockade.cli.settings import NO_FLAGS, Common, Settings, resolve
from stockade.errors import StockadeError

PATIENCE = 60.0
"""Seconds for one answer of the kernel: open at last is worse than late. The unit's time-out is what a boot waits."""


def restore(*, common: Common = NO_FLAGS) -> int:
    """Bring into force again what was in force on this host last, from the disk alone.

    For boot, before the network is up; `stockade up` then adopts it without a gap. Where nothing was kept, where the
    host was opened by `stockade off`, or where `stockade up` runs already, it says so and changes nothing.
    """
    settings = resolve(common)
    _able()
    if (reason := _why_not(settings)) is not None:
        remark(reason)
        return Exit.DONE
    return _restore(settings.state)


def _able() -> None:
    if os.geteuid() != 0:
        raise StockadeError(
            "stockade restore needs root: it writes the kernel's packet filter",
            kept="nothing was changed",
            remedy="sudo stockade restore",
        )


def _why_not(settings: Settings) -> str | None:
    """Say why there is nothing to do; None where there is something."""
    from stockade.agent.state import AssignmentFile
    from stockade.cli.emergency import written_down

    if written_down(settings.state):
        return "This host was opened by `stockade off`, and stays open until policy is applied again."
    if not AssignmentFile(settings.state).there():
        return f"Nothing to restore: {settings.state} keeps no assignment. A new installation denies nothing."
    if _answers(settings.socket):
        return "Nothing to restore: `stockade up` runs, and sees to it."
    return None


def _restore(state: Path) -> Exit:
    from stockade.adapters.netfilter.conntrack import Conntrack
    from stockade.adapters.nft import NftKernel
    from stockade.agent import restoring
    from stockade.agent.state import AssignmentFile

    kept = AssignmentFile(state).read()
    if kept is None:
        raise StockadeError(
            f"what was kept in {state} is damaged, or another version of Stockade wrote it",
            kept="nothing was changed: what the kernel does not hold is open until `stockade up` runs",
            remedy="stockade up",
        )
    intent, tracking = kept.intent, Conntrack()
    kernel = NftKernel(state / "nft.sock", tracking, deadline=PATIENCE)
    try:
        changes = restoring.restore(kernel, intent)
    finally:
        kernel.close()
        tracking.close()
    how = "is in force again" if changes else "was in force already"
    remark(f"Version {intent.version}, revision {intent.revision} {how}.")
    return Exit.DONE


def _answers(path: Path) -> bool:
    """Tell whether a server listens. One that is there and does not answer is there."""
    with socket.socket(socket.AF_UNIX) as asking, suppress(OSError):
        asking.settimeout(1.0)
        asking.connect(str(path))
        return True
    return False
