"""Smallest BPF programs, loaded and attached as somebody else would: nothing of ours is used."""

import ctypes
import os
import platform
import struct

NUMBER = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 0)
SCHED_CLS, XDP, SK_MSG, NETFILTER = 3, 6, 16, 32
AT_XDP, AT_SK_MSG, AT_NETFILTER, AT_TCX_INGRESS = 37, 7, 45, 46
PASSES = {XDP: 2, SCHED_CLS: 0, SK_MSG: 1, NETFILTER: 1}
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, request: bytes) -> int:
    buffer = ctypes.create_string_buffer(request, len(request))
    result = _libc.syscall(NUMBER, command, buffer, len(request))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def load(kind: int, attach: int = 0, name: bytes = b"stranger") -> int:
    """Load a program that lets everything pass; return its descriptor."""
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, PASSES[kind], 0x95, 0, 0, 0))
    licence = ctypes.create_string_buffer(b"GPL\0")
    head = struct.pack("=IIQQIIQII", kind, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0)
    return _bpf(5, head + name.ljust(16, b"\0") + struct.pack("=II", 0, attach))


def link_xdp(program: int, index: int) -> int:
    """Attach it to a link; it goes with the descriptor that is returned."""
    return _bpf(28, struct.pack("=IIII", program, index, AT_XDP, 0).ljust(64, b"\0"))


def link_tcx(program: int, index: int) -> int:
    return _bpf(28, struct.pack("=IIII", program, index, AT_TCX_INGRESS, 0).ljust(64, b"\0"))


def link_netfilter(program: int, hook: int, priority: int) -> int:
    """Attach it to an IPv4 hook of the calling thread's network namespace."""
    return _bpf(28, struct.pack("=IIIIIIiI", program, 0, AT_NETFILTER, 0, 2, hook, priority, 0).ljust(64, b"\0"))
