"""What a guest is made of, as a value, and the command that starts it."""

from pathlib import Path

import msgspec

from stockade.testing.guest.initrd import PORTS, initrd
from stockade.testing.guest.kernels import Kernel

BUSYBOX = "busybox"
"""The init of guests that need no service manager."""
UNUSED_BIT = "clearcpuid=141"
"""Emulated, cmpxchg16b spoils the flags now and then: seen with QEMU 7.2 in Linux 6.12's allocator. So the kernel is
told to do without; programs that ask the processor still find it, as NumPy must.
"""


class Machine(msgspec.Struct, frozen=True):
    """A guest to be. Its root is its ``layers``, first over last, and what it changes lies over all of them: in memory,
    or on the disk ``kept``, an ext4 image that outlives resets and guests. ``init`` is ``BUSYBOX`` or a program of the
    root, as ``/sbin/init``. ``extra`` goes to QEMU (links, say), ``within`` stands before its command. It is killed
    after ``lifetime`` seconds, come what may.
    """

    kernel: Kernel
    layers: tuple[Path, ...]
    init: str = BUSYBOX
    kept: Path | None = None
    memory: int = 1024
    processors: int = 2
    append: str = ""
    extra: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    lifetime: float = 900.0


def command(machine: Machine, home: Path) -> list[str]:
    """Return the command that starts a guest whose sockets and console are in a folder."""
    disks = [(path, True) for path in machine.layers] + [(path, False) for path in (machine.kept,) if path]
    names = [f"vd{chr(ord('a') + place)}" for place in range(len(disks))]
    told = f"console=ttyS0 quiet loglevel=4 panic=-1 {UNUSED_BIT} guest.init={machine.init} "
    told += f"guest.layers={','.join(names[: len(machine.layers)])} {machine.append}"
    told += f" guest.kept={names[-1]}" if machine.kept else ""
    words = [
        *machine.within,
        "setpriv", "--pdeathsig", "KILL", "--",
        "qemu-system-x86_64",
        "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
        "-m", str(machine.memory), "-smp", str(machine.processors),
        "-nodefaults", "-no-user-config", "-display", "none",
        "-serial", f"file:{home}/console",
        "-qmp", f"unix:{home}/qmp,server=on,wait=off",
        "-kernel", str(machine.kernel.image), "-initrd", str(initrd(machine.kernel)), "-append", told,
        "-device", "virtio-rng-pci",
        "-device", "virtio-serial-pci,max_ports=16",
    ]  # fmt: skip
    for n in range(1, PORTS + 1):
        words += ["-chardev", f"socket,id=c{n},path={home}/port.{n},server=on,wait=off"]
        words += ["-device", f"virtserialport,chardev=c{n},name=guest.{n}"]
    for (path, shared), name in zip(disks, names, strict=True):
        only = "on" if shared else "off"
        words += ["-drive", f"if=none,id={name},format=raw,file={path},read-only={only},cache=unsafe"]
        words += ["-device", f"virtio-blk-pci,drive={name}"]
    return [*words, *machine.extra]
