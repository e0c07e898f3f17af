"""The probe server of one namespace: does what it is told over one socket, and ends when that socket closes.

Requests and answers are JSON, each after its length as four bytes, big end first. A request has an ``id`` and an
``op``; its answer has the same ``id`` and either ``ok`` or ``error``. Nothing is ever sent that was not asked for.
"""

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stockade.testing.probe import packets
from stockade.testing.probe.answering import Answers
from stockade.testing.probe.dialling import Dial
from stockade.testing.probe.loop import READ, WRITE, Loop
from stockade.testing.probe.observer import Observer
from stockade.testing.probe.rawdesk import Association, Desk
from stockade.testing.probe.talk import NOT_SENT, Ask, Waiting

NLMSG_ERROR = 2
RTM_GETLINK, NLM_F_REQUEST = 18, 1
IFLA_IFNAME, IFLA_OPERSTATE, UP = 3, 16, 6
ROUTES6, RTF_LOCAL = Path("/proc/self/net/ipv6_route"), 0x8000_0000

Item = dict[str, Any]
Open = Dial | Association | None


class Server:
    """One namespace's probes."""

    def __init__(self, control: socket.socket, *, host: bool) -> None:
        self.loop = Loop()
        self.waiting: Waiting = {}
        self.answers = Answers(self.loop, self.waiting)
        self.desk = Desk(self.loop, self.waiting)
        self.observer = Observer(self.loop, host=host)
        self.flows: dict[str, Open] = {}
        self.batches: dict[int, Batch] = {}
        self._control, self._in, self._out = control, b"", b""
        self._requests: list[Item] = []
        self._open = True
        self._ops: dict[str, Callable[[Item], object]] = {
            "sysctl": self._sysctl, "netlink": self._netlink, "listen": self._listen, "unlisten": self._unlisten,
            "close": self._close, "inject": self._inject, "seen": self._seen, "clear": self._clear,
            "sync": self._sync, "finish": self._finish, "unready": self._unready,
        }  # fmt: skip
        control.setblocking(False)
        self.loop.watch(control.fileno(), self._ready)

    def run(self) -> None:
        """Serve until the control socket closes."""
        self._say({"id": 0, "ok": {"pid": os.getpid()}})
        while self._open:
            self.loop.turn()
            requests, self._requests = self._requests, []
            for request in requests:
                self._do(request)

    # Requests

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        try:
            data = self._control.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._open = self._open and bool(data)
        self._in += data
        while len(self._in) >= 4 and len(self._in) >= 4 + (size := int.from_bytes(self._in[:4], "big")):
            self._requests.append(json.loads(self._in[4 : 4 + size]))
            self._in = self._in[4 + size :]

    def _say(self, answer: Item) -> None:
        data = json.dumps(answer, separators=(",", ":")).encode()
        self._out += struct.pack("!I", len(data)) + data
        self._flush()

    def _flush(self) -> None:
        try:
            self._out = self._out[self._control.send(self._out) :] if self._out else b""
        except BlockingIOError:
            pass
        except OSError:
            self._open = False
            return
        self.loop.watch(self._control.fileno(), self._ready, READ | WRITE if self._out else READ)

    def _do(self, request: Item) -> None:
        """Carry out one request. Whatever goes wrong is its answer, never the end of the server."""
        try:
            if request["op"] in ("probe", "ask"):
                Batch(self, request)
                return
            self._say({"id": request["id"], "ok": self._ops[request["op"]](request)})
        except Exception as problem:  # noqa: BLE001 - the asker raises it, with these words
            self._say({"id": request["id"], "error": f"{type(problem).__name__}: {problem}"})

    # What can be asked for

    def _sysctl(self, request: Item) -> object:
        """Write settings under /proc/sys; return those that this kernel does not have."""
        absent = []
        for path, value in request["settings"]:
            try:
                (Path("/proc/sys") / path).write_text(str(value))
            except FileNotFoundError:
                absent.append(path)
        return absent

    def _netlink(self, request: Item) -> object:
        """Send route-netlink messages, each asking for its acknowledgement; return [number, errno] of each refused."""
        refused = []
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
            for number, message in enumerate(request["messages"]):
                link.send(bytes.fromhex(message))
                if code := _acknowledged(link):
                    refused.append([number, code])
        return refused

    def _unready(self, request: Item) -> object:
        """Return which of these interfaces do not carry packets yet, and which IPv6 addresses (in hex) take none.

        Only a state of "up" says that an interface does. One whose state the kernel has not looked at since it was made
        is "unknown", which counts as running, and may have no queue yet: what it is given is dropped. An IPv6 address
        is shown as soon as it is set, and gets its route only some time later.
        """
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
            found = [name for name in request["links"] if _state(link, name) != UP]
        if wanted := request["addresses"]:
            rows = [row.split() for row in ROUTES6.read_text(encoding="ascii").splitlines()]
            local = {row[0] for row in rows if int(row[8], 16) & RTF_LOCAL}
            found += [each for each in wanted if each not in local]
        return found

    def _listen(self, request: Item) -> object:
        for protocol, port, address in request["ports"]:
            if protocol == packets.SCTP:
                self.desk.listen(port, address)
            else:
                self.answers.open(protocol, port, address)
        return None

    def _unlisten(self, request: Item) -> object:
        for protocol, port, address in request["ports"]:
            if protocol == packets.SCTP:
                self.desk.unlisten(port, address)
            else:
                self.answers.close(protocol, port, address)
        return None

    def _close(self, request: Item) -> object:
        for key in request["keys"]:
            self.release(self.flows.pop(key, None))
        return None

    def _inject(self, request: Item) -> object:
        """Send frames by a link, or IP packets from the stack (``link`` empty); return one errno each, 0 for sent."""
        send = _frame_sender(request["link"]) if request["link"] else _send_packet
        return [_errno(send, bytes.fromhex(each)) for each in request["frames"]]

    def _seen(self, request: Item) -> object:
        self._settle_down()
        return {"frames": [self.observer.find(key) for key in request["keys"]], "lost": self.observer.lost}

    def _clear(self, _request: Item) -> object:
        self._settle_down()
        self.observer.clear()
        return None

    def _sync(self, _request: Item) -> object:
        """Answer when everything that had arrived has been dealt with."""
        self._settle_down()
        return None

    def _finish(self, request: Item) -> object:
        self._settle_down()
        if batch := self.batches.get(request["batch"]):
            batch.finish()
        return None

    def _settle_down(self) -> None:
        for _ in range(1000):
            if not self.loop.turn(0):
                return

    # Opening and closing

    def start(self, item: Item, ask: Ask) -> Open:
        """Begin one probe."""
        if item["protocol"] in (packets.ICMP, packets.ICMP6):
            self.desk.query(item, ask)
            return None
        if item["protocol"] == packets.SCTP:
            return self.desk.associate(item, ask)
        return Dial(self.loop, self.waiting, item, ask)

    def ask(self, item: Item, ask: Ask) -> None:
        """Ask along a connection that is open: one of ours by its key, one opened to us by the other end's port."""
        protocol, nonce, flow = item["protocol"], item["nonce"], self.flows.get(item["key"])
        if item["back"] and protocol == packets.SCTP:
            self.desk.ask_back(item["source_port"], nonce, ask)
        elif item["back"]:
            self.answers.ask(protocol, item["source_port"], nonce, ask)
        elif isinstance(flow, Association):
            self.desk.ask(flow, nonce, ask)
        elif isinstance(flow, Dial) and flow.talk is not None:
            ask.source_port = flow.ask.source_port
            flow.talk.ask(nonce, ask)
        else:
            ask.settle(NOT_SENT, "no such connection here")

    def release(self, flow: Open) -> None:
        """Close a connection."""
        if isinstance(flow, Association):
            self.desk.drop(flow)
        elif flow is not None:
            flow.close()

    def answer(self, request: int, results: object) -> None:
        """Answer a request that took its time."""
        self._say({"id": request, "ok": results})

    def still_waiting(self, request: int, count: int) -> None:
        """Tell that a batch's patience is over while some of it has no outcome."""
        self._say({"id": request, "waiting": count})


class Batch:
    """Many probes, or many questions along open connections, under way at once. Answered when each has an outcome.

    When ``patience`` is over it says how many are still waiting, and goes on waiting until it is told to finish.
    """

    def __init__(self, server: Server, request: Item) -> None:
        self.server, self.id, self.items = server, request["id"], request["items"]
        self.asks = [Ask(self._settled) for _ in self.items]
        self.opened: dict[int, Open] = {}
        self.left = len(self.items)
        server.batches[self.id] = self
        self.timer = server.loop.after(request["patience"], self._impatient)
        for number, (item, ask) in enumerate(zip(self.items, self.asks, strict=True)):
            if request["op"] == "probe":
                self.opened[number] = server.start(item, ask)
            else:
                server.ask(item, ask)
        if not self.items:
            self.finish()

    def finish(self) -> None:
        """Whatever has no outcome yet has timed out."""
        self.timer.cancel()
        if self.server.batches.pop(self.id, None) is None:
            return
        for number, item in enumerate(self.items):
            self._tidy(number, item)
        self.server.answer(self.id, [ask.report() for ask in self.asks])

    def _settled(self) -> None:
        self.left -= 1
        if not self.left:
            # Not from within the connection's own handler: it may be about to be closed.
            self.server.loop.after(0, self.finish)

    def _tidy(self, number: int, item: Item) -> None:
        """Keep a connection that is to be kept and was made; let go of everything else."""
        self.server.waiting.pop(item["nonce"], None)
        if item["protocol"] in (packets.ICMP, packets.ICMP6):
            self.server.desk.forget_query(item["source_port"])
        opened = self.opened.get(number)
        if item.get("key") and opened is not None:
            self.server.flows[item["key"]] = opened
        else:
            self.server.release(opened)

    def _impatient(self) -> None:
        self.server.still_waiting(self.id, self.left)


def _state(link: socket.socket, name: str) -> int:
    """Return an interface's operational state (RFC 2863, as in ``linux/if.h``)."""
    wanted = name.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(wanted), IFLA_IFNAME) + wanted + bytes(-len(wanted) % 4)
    body = bytes(16) + attribute
    link.send(struct.pack("=IHHII", 16 + len(body), RTM_GETLINK, NLM_F_REQUEST, 1, 0) + body)
    answer = link.recv(65536)
    if struct.unpack_from("=H", answer, 4)[0] == NLMSG_ERROR:
        number = -int(struct.unpack_from("=i", answer, 16)[0])
        raise OSError(number, os.strerror(number), name)
    at = 32
    while at + 4 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == IFLA_OPERSTATE:
            return answer[at + 4]
        at += max(length + 3 & ~3, 4)
    return 0


def _acknowledged(link: socket.socket) -> int:
    answer = link.recv(65536)
    kind = struct.unpack_from("=H", answer, 4)[0]
    return -int(struct.unpack_from("=i", answer, 16)[0]) if kind == NLMSG_ERROR else 0


def _frame_sender(link: str) -> Callable[[bytes], None]:
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind((link, 0))

    def send(frame: bytes) -> None:
        sender.send(frame)

    return send


def _send_packet(packet: bytes) -> None:
    six = packet[0] >> 4 == 6
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        sender.sendto(packet, (packets.parse_ip(packet).destination, 0))


def _errno(send: Callable[[bytes], None], data: bytes) -> int:
    try:
        send(data)
    except OSError as problem:
        return problem.errno or -1
    return 0
