"""BPF programs that run where they can lead traffic past a packet filter, as the kernel lists them (bpf(2)).

Reads only. What kind a program is never changes, so each is asked for once. Links to netfilter are listed without
their network namespace: the kernel does not tell it.
"""

import contextlib
import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Iterator

from stockade.core.posture.host import Program, ProgramKind

PROG_NEXT, PROG_FD, INFO, PROG_QUERY, LINK_FD, LINK_NEXT = 11, 13, 15, 16, 30, 31
NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
NETFILTER_LINK = 10
AT_LINKS = frozenset({3, 4, 6})
"""SCHED_CLS (tc, tcx, netkit), SCHED_ACT, XDP."""
BETWEEN_SOCKETS = {14: "SK_SKB", 16: "SK_MSG"}
TCX_INGRESS, TCX_EGRESS = 46, 47
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
FAMILIES = {2: "ip", 10: "ip6"}
MOST = 100_000
_libc = ctypes.CDLL(None, use_errno=True)


class Programs:
    """Lists programs again and again. Any method may raise ``OSError``: without CAP_SYS_ADMIN nothing is listed."""

    def __init__(self) -> None:
        self._kinds: dict[int, tuple[int, str]] = {}
        self._tcx = True
        """Whether this kernel knows tcx, as far as is known."""

    def between_sockets(self) -> Iterator[Program]:
        """Yield programs that hand data from one socket to another, past the network."""
        for id_, (kind, name) in sorted(self._loaded().items()):
            if kind in BETWEEN_SOCKETS:
                yield Program(ProgramKind.SOCKETS, id_, name, detail=BETWEEN_SOCKETS[kind])

    def for_links(self) -> bool:
        """Tell whether any program is loaded that could be at a link: nobody tells of its being put there."""
        return any(kind in AT_LINKS for kind, _ in self._loaded().values())

    def at_netfilter(self) -> Iterator[Program]:
        """Yield programs at netfilter's hooks."""
        for link in sorted(_ids(LINK_NEXT)):
            info = _info(LINK_FD, link, 64)
            if info is None:
                continue
            kind, _, program = struct.unpack_from("=III", info)
            if kind == NETFILTER_LINK:
                family, hook, priority = struct.unpack_from("=IIi", info, 16)
                place = f"{FAMILIES.get(family, family)} {HOOKS[hook] if hook < len(HOOKS) else hook} {priority}"
                detail = f"at {place} of some network namespace"
                yield Program(ProgramKind.NETFILTER, program, self.name(program), detail=detail)

    def at_links(self, links: Iterable[tuple[int, str]]) -> Iterator[Program]:
        """Yield tcx programs at links (index, name) of the calling thread's network namespace."""
        for index, link in links:
            for attach, where in ((TCX_INGRESS, "ingress"), (TCX_EGRESS, "egress")):
                for program in self._query(index, attach):
                    yield Program(ProgramKind.TCX, program, self.name(program), link, f"at {where}")

    def name(self, program: int) -> str:
        """Return a program's own name; empty where it has none or is gone."""
        if program not in self._kinds:
            with contextlib.suppress(OSError):
                self._kinds[program] = _kind(program)
        return self._kinds.get(program, (0, ""))[1]

    def _loaded(self) -> dict[int, tuple[int, str]]:
        """Return the kind and name of every program that is loaded, by id."""
        present = set(_ids(PROG_NEXT))
        known = {id_: found for id_, found in self._kinds.items() if id_ in present}
        self._kinds = known | {id_: _kind(id_) for id_ in sorted(present - known.keys())}
        return self._kinds

    def _query(self, index: int, attach: int) -> tuple[int, ...]:
        if not self._tcx:
            return ()
        ids = (ctypes.c_uint32 * 64)()
        request = struct.pack("=IIIIQI", index, attach, 0, 0, ctypes.addressof(ids), len(ids)).ljust(64, b"\0")
        try:
            answer, _ = _bpf(PROG_QUERY, request)
        except OSError as problem:
            self._tcx = problem.errno != errno.EINVAL
            if problem.errno in (errno.EINVAL, errno.ENOENT, errno.ENODEV):
                return ()
            raise
        return tuple(ids[: min(struct.unpack_from("=I", answer, 24)[0], len(ids))])


def _ids(command: int) -> Iterator[int]:
    last = 0
    for _ in range(MOST):
        try:
            answer, _ = _bpf(command, struct.pack("=II", last, 0) + bytes(8))
        except OSError as problem:
            if problem.errno == errno.ENOENT:
                return
            raise
        (last,) = struct.unpack_from("=I", answer, 4)
        yield last


def _kind(id_: int) -> tuple[int, str]:
    info = _info(PROG_FD, id_, 80)
    if info is None:
        return 0, ""
    return struct.unpack_from("=I", info)[0], info[64:80].partition(b"\0")[0].decode(errors="replace")


def _info(command: int, id_: int, size: int) -> bytes | None:
    """Return what the kernel says of a program or link; None where it has gone."""
    try:
        _, descriptor = _bpf(command, struct.pack("=II", id_, 0) + bytes(8))
    except OSError as problem:
        if problem.errno == errno.ENOENT:
            return None
        raise
    try:
        buffer = ctypes.create_string_buffer(size)
        _bpf(INFO, struct.pack("=IIQ", descriptor, size, ctypes.addressof(buffer)))
    finally:
        os.close(descriptor)
    return buffer.raw


def _bpf(command: int, request: bytes) -> tuple[bytes, int]:
    number = NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf(2)'s number on {platform.machine()} is not known")
    buffer = ctypes.create_string_buffer(request, len(request))
    result = _libc.syscall(number, command, buffer, len(request))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf(2): {os.strerror(code)}")
    return buffer.raw, int(result)
