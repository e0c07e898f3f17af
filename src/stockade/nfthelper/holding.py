# SPDX-License-Identifier: GPL-2.0-or-later
#
# This file is a program of its own. It loads libnftables (GPL-2.0) and is therefore under the GNU General Public
# License, version 2 or later, unlike the rest of the distribution. It shares no code with it and is spoken to over a
# Unix socket.
"""Hold the tables named ``stockade`` and carry out transactions on them: ``python __main__.py SOCKET [NETNS]``.

Promises: it goes on when whoever started it is killed; only its own user and root are answered; a transaction is all
or nothing; tables are owned and persistent where the kernel can, so that other processes are refused and the tables
outlive this program too; where it is killed, its deputy goes on in its place (``standing_by``), and the tables stay
owned all the while; a table left behind by an earlier helper is adopted with its content; one that
somebody has laid to sleep is woken; another helper of the same socket that nobody can reach any more makes way. Never:
touches another table, waits for a client, answers without bound.

Requests and replies are JSON objects, each after its length as four bytes, most significant first:
``{"do": "ping"}``, ``{"do": "list", "families": [...]}``, ``{"do": "commit", "text": ...}``, ``{"do": "release"}``.
The command starts a daemon and ends with 0 once a helper answers on the socket, be it another one.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import select
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .standing_by import BACKLOG, SOURCE, Standby, bound, end, peer

VERSION = 1
PROGRAM = b"/nfthelper/__main__.py"
TABLE = "stockade"
FAMILIES = {"inet": 1, "bridge": 7}
LARGEST = 64 << 20
"""Bytes of one request or reply."""
CLIENTS = 32
SEND_ROOM = 8 << 20
"""Bytes of one transaction that are asked for; the kernel gives twice net.core.wmem_max at most."""
PATIENCE = 5.0
"""Seconds for the kernel to answer a message of ours."""
INHERITANCE_ROUNDS, INHERITANCE_PAUSE = 20, 0.05
"""How often, and after how many seconds, a table that has another owner is looked at again."""
SERVED_ROUNDS = 60
"""How often, with the same pause, it is looked whether another helper that is starting listens yet."""
MUCH = 256 << 10
"""Bytes of text after which libnftables' memory is given back."""
ERRORS_SHOWN = 5
EXCERPT = 60


def main(words: Sequence[str]) -> int:
    """Start the daemon; wait until it, or another one, serves the socket."""
    if len(words) not in (1, 2):
        sys.stderr.write("usage: SOCKET [NETNS], the file of the network namespace to work in; default: this one\n")
        return 2
    path, netns = Path(words[0]).absolute(), words[1] if len(words) == 2 else ""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        daemon(path, netns, writing)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    if said == "ready":
        return 0
    sys.stderr.write(f"{said or 'the helper died before it was ready'}\n")
    return 1


def daemon(path: Path, netns: str, ready: int) -> None:
    """Serve until told to release. What keeps it from starting goes down the pipe ``ready``."""
    try:
        os.setsid()
        os.chdir("/")
        for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
        if netns:
            enter(netns)
        place = Place(path)
        if not place.taken():
            if place.served():
                say(ready, "ready")
                return
            end_lost(path)
            place.take()
        nft = Nft()
        place.sign(nft.port)
        try:
            nft.inherit()
        except NetlinkError:
            if not end_lost(path):
                raise
            nft.inherit()
        listener = place.listen()
        quieten()
    except (OSError, NetlinkError) as problem:
        say(ready, str(problem))
        return
    say(ready, "ready")
    standby = Standby(path, lambda ready: daemon(path, "", ready))
    try:
        Server(listener, nft, standby).serve()
    finally:
        standby.dismiss()
        standby.leave()
        place.leave()


def say(pipe: int, word: str) -> None:
    """Answer whoever waits for the daemon."""
    with contextlib.suppress(OSError):
        os.write(pipe, word.encode())
    os.close(pipe)


def quieten() -> None:
    """Let go of the terminal or pipe of whoever started it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)


def enter(netns: str) -> None:
    """Move this process into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(netns).open("rb") as file:
        if libc.setns(file.fileno(), 0x40000000) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), netns)


def end_lost(path: Path) -> bool:
    """Kill helpers of this very socket that nobody can reach, since its file was deleted; tell whether there was one.

    They are those of our namespaces alone. Killed, as one that ends in good order would take our files with it.
    """
    ended = [pid for pid in others(path) if end(pid)]
    return bool(ended)


def others(path: Path) -> Iterator[int]:
    """Yield the processes that were started as helpers for this socket, in our namespaces, whoever starts us apart."""
    ours = (os.getpid(), os.getppid())
    places = namespaces("self")
    for each in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if each.name.isdigit() and int(each.name) not in ours and namespaces(each.name) == places:
                words = (each / "cmdline").read_bytes().split(b"\0")
                if os.fsencode(path) in words and any(word.endswith(PROGRAM) for word in words):
                    yield int(each.name)


def namespaces(process: str) -> tuple[str, str]:
    """Return the network and mount namespaces of a process."""
    net, mounts = (str(Path(f"/proc/{process}/ns/{kind}").readlink()) for kind in ("net", "mnt"))
    return net, mounts


# The socket


class Place:
    """A socket's path, and a lock beside it, so that one helper at a time serves it and a stale one is replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_path = path.with_name(path.name + ".lock")
        self.lock = -1

    def taken(self) -> bool:
        """Take the lock for as long as this process lives; False where another helper has it."""
        while True:
            self.lock = os.open(self.lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            # Whoever had it may have removed the file in leaving: then the lock is on a file that nobody else sees.
            with contextlib.suppress(FileNotFoundError):
                if self.lock_path.stat().st_ino == os.fstat(self.lock).st_ino:
                    return True
            os.close(self.lock)

    def take(self) -> None:
        """Take the lock that a helper which was just killed had. ``OSError`` where another one was faster."""
        if not self.taken():
            raise BlockingIOError(errno.EAGAIN, "another helper is starting", str(self.path))

    def served(self) -> bool:
        """Tell whether whoever has the lock listens where it can be reached, or soon does."""
        for _ in range(SERVED_ROUNDS):
            if self.path.exists():
                return True
            time.sleep(INHERITANCE_PAUSE)
        return False

    def sign(self, port: int) -> None:
        """Leave in the lock by which netlink port this helper's transactions are known, before the first of them."""
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, f"{port}\n".encode(), 0)

    def listen(self) -> socket.socket:
        """Bind, replacing what a dead helper left."""
        return bound(self.path)

    def leave(self) -> None:
        """Remove socket and lock."""
        for path in (self.path, self.lock_path):
            with contextlib.suppress(OSError):
                path.unlink()


class Client:
    """One connection: bytes that came and bytes to go."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.came = bytearray()
        self.going = bytearray()

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield whole requests. ``ValueError`` where it is none of ours."""
        while len(self.came) >= 4:
            (length,) = struct.unpack_from(">I", self.came)
            if length > LARGEST:
                raise ValueError
            if len(self.came) < 4 + length:
                return
            request = json.loads(bytes(self.came[4 : 4 + length]))
            del self.came[: 4 + length]
            if not isinstance(request, dict):
                raise ValueError
            yield request

    def reply(self, answer: dict[str, Any]) -> None:
        """Queue an answer."""
        body = json.dumps(answer).encode()
        if len(body) > LARGEST:
            body = json.dumps({"failed": f"the answer has {len(body)} bytes, more than {LARGEST}"}).encode()
        self.going += struct.pack(">I", len(body)) + body


class Server:
    """One thread, one request at a time, in the order in which they came; a slow client delays nobody."""

    def __init__(self, listener: socket.socket, nft: "Nft", standby: Standby) -> None:
        self.listener = listener
        self.nft = nft
        self.standby = standby
        self.clients: dict[int, Client] = {}
        self.released = False
        self.begin()

    def begin(self) -> None:
        """Wait for clients, as the only one who does."""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Answer until released. The answer to that goes out in the same round; who has not read theirs is left."""
        while not self.released:
            for key, events in self.selector.select(self.standby.until()):
                if key.fileobj is self.listener:
                    self.accept()
                elif key.data is self.standby:
                    self.selector.unregister(key.fileobj)
                    self.standby.lost(key.fd)
                else:
                    self.attend(self.clients[key.fd], events)
            if self.standby.until() == 0:
                with contextlib.suppress(OSError):  # where there is no room for one now, there may be soon
                    self.appoint()

    def appoint(self) -> None:
        """Have somebody stand by; be the deputy who goes on, where this is that copy."""
        if self.standby.appoint(self.step_aside):
            self.nft.forget()
            self.listener.listen(BACKLOG)  # the kernel then names us to who connects
            self.begin()
        for descriptor in self.standby.lines.keys() - self.selector.get_map().keys():
            self.selector.register(descriptor, selectors.EVENT_READ, self.standby)

    def step_aside(self) -> None:
        """Let go of clients, who are another process's."""
        self.selector.close()
        for client in self.clients.values():
            client.connection.close()
        self.clients.clear()

    def accept(self) -> None:
        """Admit a client of our own user, or root."""
        with contextlib.suppress(BlockingIOError):
            connection, _ = self.listener.accept()
            if peer(connection)[1] not in (0, os.geteuid()) or len(self.clients) >= CLIENTS:
                connection.close()
                return
            connection.setblocking(False)
            self.clients[connection.fileno()] = Client(connection)
            self.selector.register(connection, selectors.EVENT_READ)

    def attend(self, client: Client, events: int) -> None:
        """Read, carry out what is whole, write what can be written."""
        try:
            if events & selectors.EVENT_READ:
                came = client.connection.recv(1 << 20)
                if not came:
                    raise ConnectionResetError
                client.came += came
                for request in client.requests():
                    client.reply(self.answer(request))
            if client.going:
                sent = client.connection.send(client.going)
                del client.going[:sent]
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self.drop(client)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.going else 0)
        self.selector.modify(client.connection, wanted)

    def drop(self, client: Client) -> None:
        """Forget a client that has gone or speaks nonsense."""
        self.selector.unregister(client.connection)
        del self.clients[client.connection.fileno()]
        client.connection.close()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request."""
        try:
            match request:
                case {"do": "ping"}:
                    return {
                        "version": VERSION,
                        "source": SOURCE,
                        "pid": os.getpid(),
                        "deputy": self.standby.deputy,
                        "spare": self.standby.spare,
                        "port": self.nft.port,
                        "owned": self.nft.owned(),
                    }
                case {"do": "list", "families": [*families]}:
                    return {"text": self.nft.listing([str(family) for family in families])}
                case {"do": "commit", "text": str(text)}:
                    return self.nft.commit(text)
                case {"do": "release"}:
                    self.released = True
                    return {}
        except (OSError, NetlinkError) as problem:
            return {"failed": str(problem)}
        return {"failed": "not a request of this version"}


# The kernel


class NetlinkError(Exception):
    """The kernel's answer to a message of ours. ``number`` is the errno."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{what}: {os.strerror(number)}")
        self.number = number


class Nft:
    """One libnftables context, and the netlink socket within it, by which the kernel knows a table's owner."""

    NUMERIC_PRIORITY = 1 << 8

    def __init__(self) -> None:
        before = set(sockets())
        self.library = load()
        self.context = self.library.nft_ctx_new(0)
        found = [fd for fd in sockets() if fd not in before]
        if not self.context or len(found) != 1:
            raise OSError(errno.ENOTSUP, "this libnftables does not show its netlink socket")
        self.library.nft_ctx_buffer_output(self.context)
        self.library.nft_ctx_buffer_error(self.context)
        self.library.nft_ctx_output_set_flags(self.context, self.NUMERIC_PRIORITY)
        # A second descriptor of the same socket. It stays non-blocking: a blocking one makes libnftables hang.
        self.socket = socket.socket(fileno=os.dup(found[0]))
        os.set_blocking(self.socket.fileno(), False)
        # Without root's power over buffers libnftables leaves this one as small as it was made.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_ROOM)
        self.sequence = 0x5EED0000
        self.state("inet")
        self.port: int = self.socket.getsockname()[0]

    def forget(self) -> None:
        """Read away what was meant for somebody else who had this socket."""
        while select.select([self.socket], [], [], 0)[0]:
            with contextlib.suppress(OSError):
                self.socket.recv(1 << 16)

    # Transactions and reading

    def commit(self, text: str) -> dict[str, Any]:
        """Carry out one transaction: an empty reply, or ``refused`` and nothing of it is in force."""
        created = []
        try:
            for family in DECLARED.findall(text):
                if self.state(family) is None:
                    self.create(family)
                    created.append(family)
            self.adopt()
            refused = self.run(DECLARED.sub("\n", text))
        except NetlinkError as problem:
            refused = str(problem)
        if not refused:
            return {}
        for family in created:
            self.run(f"delete table {family} {TABLE}\n")
        return {"refused": refused}

    def listing(self, families: list[str]) -> str:
        """Return our tables of these families as nft lists them; nothing for one that is not there."""
        there = [family for family in families if family in FAMILIES and self.state(family) is not None]
        text = ""
        for family in there:
            self.wake(family)
            if refused := self.run(f"list table {family} {TABLE}\n"):
                raise OSError(errno.EIO, refused)
            text += self.library.nft_ctx_get_output_buffer(self.context).decode(errors="replace")
        if len(text) > MUCH:
            self.give_back()
        return text

    def run(self, text: str) -> str:
        """Run commands as one batch; return what libnftables says is wrong, or nothing."""
        if not text.strip():
            return ""
        batch = os.memfd_create("batch")
        try:
            write(batch, text.encode())
            # Only what is read from a file is reported with its line.
            name = f"/proc/self/fd/{batch}"
            failed = self.library.nft_run_cmd_from_filename(self.context, name.encode())
            said = self.library.nft_ctx_get_error_buffer(self.context).decode(errors="replace")
        finally:
            os.close(batch)
        if len(text) > MUCH:
            self.give_back()
        return explain(said, name) if failed else ""

    def give_back(self) -> None:
        """Return memory: a failed command makes libnftables drop its cache."""
        self.library.nft_run_cmd_from_buffer(self.context, b"drop the cache")
        self.library.nft_ctx_get_error_buffer(self.context)
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)

    # Ownership

    def owned(self) -> dict[str, bool]:
        """Tell for each of our tables that is there whether it is owned."""
        there = {family: self.state(family) for family in FAMILIES}
        return {family: bool(state[0] & OWNER) for family, state in there.items() if state is not None}

    def adopt(self) -> None:
        """Own every table of ours that has lost its owner. One that is owned by another process is an error."""
        for family in FAMILIES:
            flags, owner = self.state(family) or (0, 0)
            if flags & OWNER and owner != self.port:
                raise NetlinkError(errno.EPERM, f"table {family} {TABLE} is owned by another process (port {owner})")
            if flags & PERSIST and not flags & OWNER:
                self.declare(family, OWNER | PERSIST, 0)
            elif flags & DORMANT:
                self.declare(family, flags & ~DORMANT, 0)

    def wake(self, family: str) -> None:
        """Put a table of ours back at its hooks: one that somebody laid to sleep lists as if nothing were amiss."""
        flags, owner = self.state(family) or (0, 0)
        if flags & DORMANT and owner in (0, self.port):
            self.adopt()

    def inherit(self) -> None:
        """Adopt at the start, when an earlier helper that was killed may still be on its way out."""
        for _ in range(INHERITANCE_ROUNDS):
            with contextlib.suppress(NetlinkError):
                return self.adopt()
            time.sleep(INHERITANCE_PAUSE)
        return self.adopt()

    def create(self, family: str) -> None:
        """Make an empty table: owned and persistent, or plain where the kernel cannot (before 6.9)."""
        try:
            self.declare(family, OWNER | PERSIST, CREATE)
        except NetlinkError as refused:
            if refused.number not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            self.declare(family, 0, CREATE)

    def declare(self, family: str, flags: int, how: int) -> None:
        """NFT_MSG_NEWTABLE as raw netlink: nft 1.0.6 cannot spell ``persist``."""
        body = attribute(TABLE_NAME, TABLE.encode() + b"\0") + attribute(TABLE_FLAGS, struct.pack(">I", flags))
        self.sequence += 3
        number = FAMILIES[family]
        batch = message(BATCH_BEGIN, REQUEST, self.sequence - 1, 0, SUBSYSTEM, b"")
        batch += message(NEWTABLE, REQUEST | ACK | how, self.sequence, number, 0, body)
        batch += message(BATCH_END, REQUEST, self.sequence + 1, 0, SUBSYSTEM, b"")
        self.sequence += 1
        self.talk(batch, self.sequence - 1, f"table {family} {TABLE}")

    def state(self, family: str) -> tuple[int, int] | None:
        """Return a table's flags and its owner's port; None where it is not there."""
        self.sequence += 1
        body = attribute(TABLE_NAME, TABLE.encode() + b"\0")
        request = message(GETTABLE, REQUEST | ACK, self.sequence, FAMILIES[family], 0, body)
        try:
            reply = self.talk(request, self.sequence, f"table {family} {TABLE}")
        except NetlinkError as refused:
            if refused.number == errno.ENOENT:
                return None
            raise
        found = attributes(reply[20:])
        return word(found.get(TABLE_FLAGS)), word(found.get(TABLE_OWNER))

    def talk(self, request: bytes, sequence: int, what: str) -> bytes:
        """Send and wait for the acknowledgement; return the last message that was not one."""
        self.socket.sendto(request, (0, 0))
        reply = b""
        while True:
            if not select.select([self.socket], [], [], PATIENCE)[0]:
                raise NetlinkError(errno.ETIMEDOUT, what)
            for kind, number, content in messages(self.socket.recv(1 << 16)):
                if number != sequence:
                    continue
                if kind != ERROR:
                    reply = content
                elif error := -struct.unpack_from("=i", content, 16)[0]:
                    raise NetlinkError(error, what)
                else:
                    return reply


DECLARED = re.compile(rf"^add table (inet|bridge) {TABLE}\n", re.MULTILINE)
"""Never left to libnftables: a table that is owned cannot be declared again in text."""

DORMANT, OWNER, PERSIST = 1, 2, 4
REQUEST, ACK, CREATE = 0x1, 0x4, 0x400
BATCH_BEGIN, BATCH_END, ERROR = 0x10, 0x11, 0x2
SUBSYSTEM = 10
TABLE_NAME, TABLE_FLAGS, TABLE_OWNER = 1, 2, 7
NEWTABLE, GETTABLE = SUBSYSTEM << 8, SUBSYSTEM << 8 | 1


def load() -> ctypes.CDLL:
    """Load libnftables and say what its functions take."""
    library = ctypes.CDLL("libnftables.so.1")
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint
    library.nft_ctx_new.restype = pointer
    library.nft_ctx_new.argtypes = [number]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [pointer]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [pointer]
        getattr(library, name).restype = text
    library.nft_ctx_output_set_flags.argtypes = [pointer, number]
    for name in ("nft_run_cmd_from_filename", "nft_run_cmd_from_buffer"):
        getattr(library, name).argtypes = [pointer, text]
    return library


def sockets() -> list[int]:
    """Return the descriptors of this process that are sockets."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith("socket:"):
                found.append(int(link.name))
    return found


def write(file: int, content: bytes) -> None:
    """Write all of it."""
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def explain(said: str, name: str) -> str:
    """Put libnftables' errors as ``line N: reason: excerpt``, the first few of them, however long the lines were."""
    found = []
    pattern = rf"^{re.escape(name)}:(\d+):(\d+)-\d+: Error: (.*)\n(.*)$"
    for line, column, reason, source in re.findall(pattern, said, re.MULTILINE):
        start = max(0, int(column) - 1 - EXCERPT)
        found.append(f"line {line}: {reason}: {source[start : int(column) - 1 + EXCERPT].strip()}")
    if not found:
        found = [line.strip()[: 4 * EXCERPT] for line in said.splitlines() if line.strip()] or ["no reason given"]
    unique = list(dict.fromkeys(found))
    more = [f"and {len(unique) - ERRORS_SHOWN} more"] if len(unique) > ERRORS_SHOWN else []
    if "Message too long" in said:
        more.append("the transaction is larger than the socket's send buffer: raise net.core.wmem_max, or run as root")
    return "\n".join(unique[:ERRORS_SHOWN] + more)


def message(kind: int, flags: int, sequence: int, family: int, resource: int, body: bytes) -> bytes:
    """Return one netlink message with its nfgenmsg."""
    head = struct.pack("=IHHII", 20 + len(body), kind, flags, sequence, 0)
    return head + struct.pack(">BBH", family, 0, resource) + body


def attribute(kind: int, content: bytes) -> bytes:
    """Return one netlink attribute, padded."""
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return attributes by kind."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[max(4, length + 3 & ~3) :]
    return found


def word(content: bytes | None) -> int:
    """Return a number as netfilter sends it; 0 where there is none."""
    return int.from_bytes(content or b"", "big")


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (type, sequence number, whole message)."""
    while len(data) >= 16:
        length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data)
        yield kind, sequence, data[:length]
        data = data[max(16, length + 3 & ~3) :]
