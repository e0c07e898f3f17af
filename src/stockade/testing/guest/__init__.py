"""QEMU guests for tests: another kernel, another machine, rebooted and thrown away.

``with running(STABLE) as guest`` boots this checkout on a Debian kernel in software emulation and ends it with the
block; ``Guest(Machine(kernel(STABLE), layers))`` boots any root, with an init of its own if it has one. Whatever is
slow to make (kernels, images) is made once, into a cache folder outside the checkout (``cache.folder``).
"""

from stockade.testing.guest.guest import Done, Guest, GuestError
from stockade.testing.guest.images import checkout, empty, image, modules, programs
from stockade.testing.guest.kernels import BACKPORTS, STABLE, Kernel, kernel
from stockade.testing.guest.machine import BUSYBOX, Machine
from stockade.testing.guest.ours import running

__all__ = [
    "BACKPORTS",
    "BUSYBOX",
    "STABLE",
    "Done",
    "Guest",
    "GuestError",
    "Kernel",
    "Machine",
    "checkout",
    "empty",
    "image",
    "kernel",
    "modules",
    "programs",
    "running",
]
