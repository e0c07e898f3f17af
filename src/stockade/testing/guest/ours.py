"""A guest that runs this checkout, ready-made: its Python, its packages, the programs that it calls, and its code."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from stockade.errors import StockadeError
from stockade.testing.guest import images
from stockade.testing.guest.guest import Guest
from stockade.testing.guest.kernels import kernel
from stockade.testing.guest.machine import Machine

CHECKOUT = Path(__file__).resolve().parents[4]


@contextlib.contextmanager
def running(name: str, **more: object) -> Iterator[Guest]:
    """Boot this checkout as it is now on a kernel (``STABLE``, ``BACKPORTS``); ``more`` are fields of ``Machine``."""
    if not (CHECKOUT / ".venv").exists():
        raise StockadeError(f"{CHECKOUT} has no .venv to run in a guest", remedy="make setup")
    chosen = kernel(name)
    with tempfile.TemporaryDirectory(prefix="stockade-layers-") as folder:
        code = images.checkout(CHECKOUT, Path(folder) / "checkout.ext4")
        layers = (code, images.modules(chosen), images.programs(CHECKOUT))
        with Guest(replace(Machine(chosen, layers), **more)) as guest:
            yield guest
