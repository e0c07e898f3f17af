"""Run a shell script in a guest that has this checkout: ``python -m stockade.testing.guest stable|backports SCRIPT``.

The script begins in the checkout's folder, with ``.venv/bin`` first in its path. ``fetch`` instead of both fetches the
kernels, for whoever runs guests later where there is no network.
"""

import sys

from stockade.errors import StockadeError
from stockade.testing.guest.kernels import BACKPORTS, STABLE, kernel
from stockade.testing.guest.ours import CHECKOUT, running

LONGEST = 3600.0
FETCH = "fetch"


def main() -> int:
    """Boot, run, show what it says as it says it; the exit code is the script's."""
    if sys.argv[1:] != [FETCH] and (len(sys.argv) != 3 or sys.argv[1] not in (STABLE, BACKPORTS)):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    try:
        if sys.argv[1] == FETCH:
            for name in (STABLE, BACKPORTS):
                kernel(name)
            return 0
        with running(sys.argv[1], lifetime=LONGEST, memory=2048) as guest:
            script = f"cd {CHECKOUT} && export PATH=$PWD/.venv/bin:$PATH\n{sys.argv[2]}"
            return guest.run(script, timeout=LONGEST, heard=_show).status
    except StockadeError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1


def _show(said: bytes) -> None:
    sys.stdout.buffer.write(said)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
