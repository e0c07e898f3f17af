"""The links and addresses of one network namespace, listed and then followed.

Dumps and changes come through one socket, in the order in which they happened, so that none is missed between the
two and none is believed after it was outdated. Where the kernel could not keep up (ENOBUFS) everything is listed
again, and the loss is counted.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterable, Iterator

from stockade.adapters.netlink import wire
from stockade.adapters.netlink.namespace import Namespace, inside
from stockade.adapters.netlink.values import AddressesSeen, LinkEvent, LinkGone, LinkSeen, LinksListed
from stockade.adapters.netlink.wire import Message
from stockade.errors import StockadeError

BUFFER = 8 << 20
"""Bytes of messages that may wait: some ten thousand links at once."""
LARGEST = 1 << 18
SO_RCVBUFFORCE = 33


class LinkWatch:
    """What is known of links and addresses. ``buffer`` is how many bytes of messages may wait to be read."""

    def __init__(self, namespace: Namespace | None = None, *, buffer: int = BUFFER) -> None:
        self.lost = 0
        """How often messages were lost, and everything was listed again."""
        self._socket = inside(namespace, _open)
        _widen(self._socket, buffer)
        self._socket.bind((0, wire.GROUPS))
        self._state = self._coming = _State()
        self._listed: LinksListed | None = None
        self._listing = _Listing()

    async def events(self) -> AsyncIterator[LinkEvent]:
        """Yield ``LinksListed`` first, then each change; ``LinksListed`` again after a loss. Never ends by itself."""
        loop = asyncio.get_running_loop()
        self._list()
        while True:
            try:
                data = await loop.sock_recv(self._socket, LARGEST)
            except OSError as problem:
                if problem.errno != errno.ENOBUFS:
                    raise _unreadable(problem) from problem
                self.lost += 1
                self._drain()
                self._list()
                continue
            for event in self._heard(data):
                self._listed = None
                yield event

    @property
    def now(self) -> LinksListed:
        """Everything as it was when the last event was yielded."""
        if self._listed is None:
            self._listed = self._state.listed()
        return self._listed

    def close(self) -> None:
        """Stop following. May be called twice."""
        self._socket.close()

    def _list(self) -> None:
        """Begin to list everything anew, from nothing, so that what is gone is not kept."""
        self._coming = _State()
        self._socket.send(self._listing.begin())

    def _drain(self) -> None:
        """Read until nothing is left. Until then the kernel goes on dropping, and says so only once (af_netlink.c)."""
        while True:
            try:
                self._socket.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno != errno.ENOBUFS:
                    raise _unreadable(problem) from problem

    def _heard(self, data: bytes) -> Iterator[LinkEvent]:
        for message in wire.messages(data):
            if self._listing.over:
                for event in self._state.apply(message):
                    self._look_again(event, self._state)
                    yield event
            elif request := self._listing.heard(message):
                self._socket.send(request)
            elif self._listing.broken:
                self._list()
                return
            elif self._listing.over:
                self._state = self._coming
                yield self._state.listed()
            else:
                for event in self._coming.apply(message):
                    self._look_again(event, self._coming)

    def _look_again(self, event: LinkEvent, state: "_State") -> None:
        """Ask for a link about which the kernel tells nothing more by itself: one end of a veth pair is told before
        it has another end, and nobody is told that the other end has gone elsewhere.
        """
        if isinstance(event, LinkSeen) and event.kind == "veth" and not event.peer_index:
            self._socket.send(wire.ask_link(event.index))
        elif isinstance(event, LinkGone) and (peer := state.peer_of(event.index)):
            self._socket.send(wire.ask_link(peer))


def stirring() -> socket.socket:
    """Return a socket that becomes readable whenever a link or an address changes in the namespace of this thread."""
    found = _open()
    found.bind((0, wire.GROUPS))
    return found


def list_links(namespace: Namespace | None = None) -> LinksListed:
    """List links and addresses once, waiting for the kernel's answer."""
    with contextlib.closing(inside(namespace, _open)) as asked:
        asked.setblocking(True)
        for _ in range(100):
            state, listing = _State(), _Listing()
            asked.send(listing.begin())
            while not (listing.over or listing.broken):
                for message in wire.messages(asked.recv(LARGEST)):
                    if request := listing.heard(message):
                        asked.send(request)
                    else:
                        state.take(message)
            if listing.over:
                return state.listed()
    raise StockadeError("links change faster than they can be listed", remedy="try again")


def look_up(indices: Iterable[int]) -> LinksListed:
    """Look up some of this namespace's links, without their addresses; what is not there is left out."""
    state = _State()
    with contextlib.closing(_open()) as asked:
        asked.setblocking(True)
        for index in sorted(indices):
            asked.send(wire.ask_link(index))
            for message in wire.messages(asked.recv(LARGEST)):
                state.take(message)
    return state.listed()


def namespace_number(namespace: Namespace, seen_from: Namespace | None = None) -> int:
    """Return by which number one namespace knows another (``LinkSeen.netnsid``); -1 where no link joins them."""
    with contextlib.closing(inside(seen_from, _open)) as asked:
        asked.setblocking(True)
        asked.send(wire.ask_namespace(namespace.fd, 1))
        (message,) = wire.messages(asked.recv(LARGEST))
    if message.type == wire.ERROR:
        raise _unreadable(OSError(wire.error(message.body), ""))
    return wire.namespace_number(message.body)


class _Listing:
    """Two dumps, one after the other: links, then addresses. Sequence numbers tell dumps from changes."""

    def __init__(self) -> None:
        self.over = self.broken = False
        self._sequence = 0
        self._wanted = iter((wire.GETADDR,))

    def begin(self) -> bytes:
        self.over = self.broken = False
        self._wanted = iter((wire.GETADDR,))
        self._sequence += 1
        return wire.dump(wire.GETLINK, self._sequence)

    def heard(self, message: Message) -> bytes | None:
        """Take note of a message; return the next request where one is due."""
        if message.sequence != self._sequence:
            return None
        # A dump that was interrupted by a change may have left something out.
        self.broken = self.broken or bool(message.flags & wire.INTERRUPTED) or _refused(message)
        if message.type != wire.DONE or self.broken:
            return None
        if (kind := next(self._wanted, None)) is None:
            self.over = True
            return None
        self._sequence += 1
        return wire.dump(kind, self._sequence)


class _State:
    def __init__(self) -> None:
        self._links: dict[int, LinkSeen] = {}
        self._addresses: dict[int, frozenset[str]] = {}

    def listed(self) -> LinksListed:
        return LinksListed(
            tuple(self._links[index] for index in sorted(self._links)),
            tuple(AddressesSeen(index, tuple(sorted(self._addresses[index]))) for index in sorted(self._addresses)),
        )

    def peer_of(self, index: int) -> int:
        """Return the index of the link whose other end this was; 0 where there is none."""
        found = (each.index for each in self._links.values() if each.peer_index == index and each.kind == "veth")
        return next(found, 0)

    def take(self, message: Message) -> None:
        """Take in a message and tell nobody."""
        for _ in self.apply(message):
            pass

    def apply(self, message: Message) -> Iterator[LinkEvent]:
        """Take in a message; yield what it changed."""
        if message.type == wire.NEWLINK and (link := wire.link(message.body)):
            if self._links.get(link.index) != link:
                self._links[link.index] = link
                yield link
        elif message.type == wire.DELLINK and (link := wire.link(message.body)):
            self._addresses.pop(link.index, None)
            if (gone := self._links.pop(link.index, None)) is not None:
                yield LinkGone(gone.index, gone.name)
        elif message.type in (wire.NEWADDR, wire.DELADDR) and (found := wire.address(message.body)):
            yield from self._readdress(*found, added=message.type == wire.NEWADDR)

    def _readdress(self, index: int, address: str, *, added: bool) -> Iterator[LinkEvent]:
        before = self._addresses.get(index, frozenset())
        after = before | {address} if added else before - {address}
        if after == before:
            return
        self._addresses[index] = after
        if not after:
            del self._addresses[index]
        yield AddressesSeen(index, tuple(sorted(after)))


def _open() -> socket.socket:
    found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    return found


def _widen(found: socket.socket, buffer: int) -> None:
    try:
        found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
    except OSError:  # only root of the machine may pass net.core.rmem_max by
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)


def _refused(message: Message) -> bool:
    return message.type == wire.ERROR and wire.error(message.body) != 0


def _unreadable(problem: OSError) -> StockadeError:
    return StockadeError(
        f"the kernel's links cannot be read: {os.strerror(problem.errno or 0)}",
        kept="what was known of them stays",
        remedy="see stockade doctor",
    )
