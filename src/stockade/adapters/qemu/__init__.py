"""Virtual machines on this host: QEMU's processes, what libvirt knows of them, and what their links say.

Promises: a machine is seen by the tap that its process holds open, which the kernel says and no command line can claim.
An address is a machine's only if nobody else has it. Never changes anything: it reads files and listens.
"""

from stockade.adapters.qemu.runtime import QemuRuntime

__all__ = ["QemuRuntime"]
