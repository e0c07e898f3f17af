"""What was collected of one host, as values. Each part is there, or it says why it is not."""

import enum

import msgspec


class Unread(msgspec.Struct, frozen=True):
    """A part that could not be collected: why, and what would help."""

    why: str
    remedy: str = ""


# Packet filters of others


class Does(str, enum.Enum):
    """What a rule does to a packet that could matter to who judges it before or after."""

    TRANSLATES = "gives connections another destination"
    REWRITES = "rewrites addresses or ports in packets"
    UNTRACKS = "takes packets out of connection tracking"
    FORWARDS = "sends frames out of another link"
    COPIES = "sends copies of packets elsewhere"
    OFFLOADS = "lets connections go past every later rule"
    ASKS = "leaves packets to a process"
    MARKS = "writes mark bits"


class Act(msgspec.Struct, frozen=True, order=True):
    """One thing that a chain's rules do. ``detail`` is the rule's own word; ``packet`` and ``connection``: mark bits
    that may change.
    """

    chain: str
    does: Does
    detail: str = ""
    packet: int = 0
    connection: int = 0


class BaseChain(msgspec.Struct, frozen=True, order=True):
    """A chain at a hook. ``kind`` is ``filter``, ``nat`` or ``route``; lower ``priority`` comes first."""

    name: str
    kind: str
    hook: str
    priority: int


class ForeignTable(msgspec.Struct, frozen=True):
    """A table that is not ours, with its chains at hooks and what matters of its rules.

    ``family`` is nft's, or ``legacy ip`` and ``legacy ip6`` for the older programs' tables.
    """

    family: str
    name: str
    chains: tuple[BaseChain, ...] = ()
    acts: tuple[Act, ...] = ()


# Links


class TrafficAct(msgspec.Struct, frozen=True, order=True):
    """What a traffic control filter does: ``where`` is ``ingress``, ``egress`` or a queue's handle.

    ``act`` is the action's or program's kind (``mirred``, ``pedit``, ``bpf``); ``target`` the link that frames go to.
    """

    link: str
    where: str
    classifier: str
    act: str
    target: str = ""


class ProgramKind(str, enum.Enum):
    """Where the kernel runs a BPF program that can lead traffic past a packet filter."""

    XDP = "XDP"
    TCX = "tcx"
    NETFILTER = "netfilter"
    SOCKETS = "between sockets"


class Program(msgspec.Struct, frozen=True, order=True):
    """A BPF program: its id, its name, and the link that it is at (empty: none, or not told)."""

    kind: ProgramKind
    id: int
    name: str = ""
    link: str = ""
    detail: str = ""


class LinkPort(msgspec.Struct, frozen=True, order=True):
    """A link and the bridge that it is a port of (empty: of none)."""

    name: str
    bridge: str = ""


class BridgeSeen(msgspec.Struct, frozen=True, order=True):
    """A bridge's own switches. ``filters``: it shows IPv4 and IPv6 frames to the inet family by itself."""

    name: str
    vlan_filtering: bool = False
    filters4: bool = False
    filters6: bool = False


# Routing


class RoutingRule(msgspec.Struct, frozen=True, order=True):
    """An ``ip rule`` that a kernel does not have by itself."""

    family: int
    priority: int
    text: str


class LocalRoute(msgspec.Struct, frozen=True, order=True):
    """A prefix that this host takes for its own without having it as an address."""

    prefix: str
    table: int


# Files


class FileUse(str, enum.Enum):
    """What a file is to us, and so who may touch it."""

    PRIVATE = "private"
    """Read and written by us alone."""
    CODE = "code"
    """Run as root: only root may change it."""
    MEETING = "meeting"
    """A socket that others may talk to: it must be ours; who may do what is asked of each peer."""
    PARENT = "parent"
    """A folder above one of them: whoever may rename in it may replace what is below."""


class FileSeen(msgspec.Struct, frozen=True, order=True):
    """One file, folder or socket as it stands. ``trusted``: its owner is root or the user that we run as."""

    path: str
    use: FileUse
    mode: int
    owner: str
    trusted: bool = True

    @property
    def sticky(self) -> bool:
        """Whether it is a folder in which nobody can rename what is another's."""
        return bool(self.mode & 0o1000)


class Facts(msgspec.Struct, frozen=True):
    """Everything that was collected at one time.

    ``switches`` are settings under /proc/sys by path. ``tracked`` is (entries, limit) of connection tracking.
    ``unlisted`` names tables that are there and cannot be read.
    """

    tables: tuple[ForeignTable, ...] | Unread
    legacy: tuple[ForeignTable, ...] | Unread
    unlisted: tuple[str, ...]
    traffic: tuple[TrafficAct, ...] | Unread
    programs: tuple[Program, ...] | Unread
    rules: tuple[RoutingRule, ...] | Unread
    local: tuple[LocalRoute, ...] | Unread
    ports: tuple[LinkPort, ...] | Unread
    bridges: tuple[BridgeSeen, ...] | Unread
    switches: tuple[tuple[str, int], ...] | Unread
    tracked: tuple[int, int] | Unread
    hooks: Unread
    files: tuple[FileSeen, ...] | Unread
