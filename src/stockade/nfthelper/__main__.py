# SPDX-FileCopyrightText: Stockade contributors
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Holds one libnftables context open and carries out transactions that come over a Unix socket.

libnftables is GPL-2, so this is a program of its own: it imports nothing of Stockade, and Stockade imports nothing of
it. It outlives whoever started it. It owns the tables named ``stockade`` where the kernel knows owners
(``NFT_TABLE_F_OWNER`` with ``NFT_TABLE_F_PERSIST``, Linux 6.9): others get EPERM, ``nft flush ruleset`` passes them
by, and they stay when this program dies. The owner is libnftables' own netlink socket, so the flags are sent on that.

    python -I nfthelper/__main__.py SOCKET [UID]

Each message is a length (4 bytes, big endian) and so many bytes of JSON. Requests have an ``op``: ``commit`` (with ``text``),
``list``, ``ping``, ``quit``. Replies have ``ok`` and, where that is false, an ``error``.
"""

import ctypes
import errno
import json
import os
import socket
import struct
import sys
import threading
from pathlib import Path

TABLE = "stockade"
FAMILIES = {"inet": 1, "bridge": 7}
LIMIT = 256 * 1024 * 1024

NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 0x1, 0x4, 0x400
NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFT_MSG_NEWTABLE = 0
NFTA_TABLE_NAME, NFTA_TABLE_FLAGS = 1, 2
OWNER, PERSIST = 0x2, 0x4
NLMSG_ERROR = 2
NFT_CTX_OUTPUT_JSON = 1 << 4
NFT_CTX_OUTPUT_NUMERIC_ALL = 0x1E0
NFT_CTX_OUTPUT_TERSE = 1 << 11


class Nft:
    """One libnftables context and the netlink socket inside it."""

    def __init__(self) -> None:
        self.lib = ctypes.CDLL("libnftables.so.1")
        self.lib.nft_ctx_new.restype = ctypes.c_void_p
        self.lib.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        self.lib.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self.lib.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_get_output_buffer"):
            getattr(self.lib, name).argtypes = [ctypes.c_void_p]
        self.lib.nft_ctx_get_error_buffer.argtypes = [ctypes.c_void_p]
        self.lib.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        before = descriptors()
        self.context = self.lib.nft_ctx_new(0)
        if not self.context:
            raise OSError(errno.ENOMEM, "libnftables gave no context")
        self.socket = netlink_among(descriptors() - before)
        self.lib.nft_ctx_buffer_output(self.context)
        self.lib.nft_ctx_buffer_error(self.context)
        self.owned: dict[str, bool] = {}
        self.lock = threading.Lock()

    def commit(self, text: str) -> tuple[bool, str]:
        """Carry out one transaction; return whether it is in force, and the error."""
        with self.lock:
            error = self.own_all()
            if error:
                return False, error
            return self.run(text, 0)

    def list(self) -> tuple[bool, str]:
        """Return our tables as JSON documents, one a line."""
        with self.lock:
            documents = []
            for family in FAMILIES:
                good, out = self.run(f"list table {family} {TABLE}", NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_NUMERIC_ALL)
                if good:
                    documents.append(out.strip())
                elif "No such file" not in out:
                    return False, out
            return True, "\n".join(documents)

    def run(self, text: str, flags: int) -> tuple[bool, str]:
        """Let libnftables carry out commands; return whether it did, and what it said."""
        self.lib.nft_ctx_output_set_flags(self.context, flags)
        failed = self.lib.nft_run_cmd_from_buffer(self.context, text.encode())
        out = self.lib.nft_ctx_get_output_buffer(self.context) or b""
        error = self.lib.nft_ctx_get_error_buffer(self.context) or b""
        return (not failed, (error if failed else out).decode(errors="replace"))

    def own_all(self) -> str:
        """Make both tables, or adopt them from an owner that died; plain ones where the kernel knows no owners."""
        for family in FAMILIES:
            if family in self.owned and self.present(family):
                continue
            code = self.own(family, OWNER | PERSIST)
            if code in (errno.EOPNOTSUPP, errno.EINVAL):
                code = self.own(family, 0)
                self.owned[family] = False
            elif code == 0:
                self.owned[family] = True
            if code:
                self.owned.pop(family, None)
                return f"table {family} {TABLE}: {os.strerror(code)}"
        return ""

    def present(self, family: str) -> bool:
        """Tell whether a table is there. One that we own nobody else can remove."""
        good, _ = (
            self.run(f"list table {family} {TABLE}", NFT_CTX_OUTPUT_TERSE) if not self.owned[family] else (True, "")
        )
        return good

    def own(self, family: str, flags: int) -> int:
        """Send NFT_MSG_NEWTABLE on libnftables' socket; return 0 or an errno."""
        number = FAMILIES[family]
        name = attribute(NFTA_TABLE_NAME, TABLE.encode() + b"\0")
        body = struct.pack("=BBH", number, 0, 0) + name + attribute(NFTA_TABLE_FLAGS, struct.pack(">I", flags))
        subsystem = struct.pack("=BBH", 0, 0, socket.htons(NFNL_SUBSYS_NFTABLES))
        batch = message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 1, subsystem)
        kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE
        batch += message(kind, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK, 2, body)
        batch += message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, 3, subsystem)
        self.socket.sendto(batch, (0, 0))
        return self.answer()

    def answer(self) -> int:
        """Read the acknowledgement of the table's message; the kernel has answered before ``sendto`` returned."""
        result = 0
        while True:
            try:
                data = self.socket.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return result
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind == NLMSG_ERROR and length >= 20:
                    result = result or -struct.unpack_from("=i", data, 16)[0]
                data = data[(length + 3) & ~3 :] if length else b""


def descriptors() -> set[int]:
    """Return this process's open descriptors; the one that reading them took is closed again by then."""
    seen = [each.name for each in Path("/proc/self/fd").iterdir()]
    return {int(name) for name in seen if Path("/proc/self/fd", name).is_symlink()}


def netlink_among(candidates: set[int]) -> socket.socket:
    """Return libnftables' netlink socket, shared with it."""
    for each in sorted(candidates):
        try:
            found = socket.socket(fileno=os.dup(each))
        except OSError:
            continue
        if found.family == socket.AF_NETLINK:
            return found
        found.close()
    raise OSError(errno.ENOTSOCK, "libnftables opened no netlink socket")


def attribute(kind: int, data: bytes) -> bytes:
    """Return a netlink attribute, padded."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """Return a netlink message."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def receive(peer: socket.socket, count: int) -> bytes:
    """Read exactly so many bytes; fewer mean that the peer is gone."""
    parts = []
    while count:
        part = peer.recv(min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def answer(nft: Nft, request: dict) -> dict:
    """Carry out one request."""
    operation = request.get("op")
    if operation == "commit":
        good, said = nft.commit(request["text"])
        return {"ok": good, "error": "" if good else said, "owned": nft.owned}
    if operation == "list":
        good, said = nft.list()
        return {"ok": good, "error": "" if good else said, "documents": said if good else "", "owned": nft.owned}
    if operation in ("ping", "quit"):
        return {"ok": True, "pid": os.getpid(), "owned": nft.owned}
    return {"ok": False, "error": f"unknown request {operation!r}"}


def serve(nft: Nft, peer: socket.socket) -> None:
    """Answer one client until it goes."""
    with peer:
        try:
            while True:
                (length,) = struct.unpack(">I", receive(peer, 4))
                if length > LIMIT:
                    return
                request = json.loads(receive(peer, length))
                reply = json.dumps(answer(nft, request)).encode()
                peer.sendall(struct.pack(">I", len(reply)) + reply)
                if request.get("op") == "quit":
                    os._exit(0)
        except (EOFError, OSError, ValueError, KeyError):
            return


def allowed(peer: socket.socket, uid: int) -> bool:
    """Only root and the user that started it may ask."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("3i", credentials)[1] in (0, uid)


def listen(path: str) -> socket.socket:
    """Bind the socket; a stale one is replaced, a live one means that another helper serves already."""
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(path)
    except FileNotFoundError:
        pass
    except OSError:
        Path(path).unlink(missing_ok=True)
    else:
        raise SystemExit(0)
    finally:
        probe.close()
    listener = socket.socket(socket.AF_UNIX)
    os.umask(0o177)
    listener.bind(path)
    listener.listen(16)
    return listener


def main() -> None:
    """Serve until told to quit."""
    path = sys.argv[1]
    uid = int(sys.argv[2]) if len(sys.argv) > 2 else os.getuid()
    listener = listen(path)
    nft = Nft()
    while True:
        peer, _ = listener.accept()
        if not allowed(peer, uid):
            peer.close()
            continue
        threading.Thread(target=serve, args=(nft, peer), daemon=True).start()


if __name__ == "__main__":
    main()
