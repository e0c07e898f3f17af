"""What ``doctor`` makes of a machine's facts: one check a thing, each good, a warning, a problem, or not assessed.

Pure: facts in, checks out. What could not be looked at is never shown as good.
"""

import re
from collections.abc import Callable, Iterator

from stockade.cli.machine_facts import EngineSocket, Facts, MarkWrite
from stockade.core.compile.nft.marks import MARKS
from stockade.core.posture.host.files import files
from stockade.wire.api import Check, Judged

OLDEST_KERNEL = (5, 10)
OWNED_SINCE = (6, 9)
"""Tables that others cannot change and that outlive their owner."""
NEARLY_FULL = 0.8
SMALL_TABLE = 16_384


def checks(facts: Facts) -> tuple[Check, ...]:
    """Judge everything, in a fixed order."""
    return tuple(check(facts) for check in CHECKS)


def kernel(facts: Facts) -> Check:
    """Old kernels lack verdict maps over concatenations."""
    if _release(facts.kernel) < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        return _problem("kernel", f"{facts.kernel} is older than {oldest}", f"boot a kernel of {oldest} or later")
    return _good("kernel", facts.kernel)


def permission(facts: Facts) -> Check:
    """Without CAP_NET_ADMIN only the demo and the lab run, in a user namespace."""
    if facts.net_admin:
        return _good("permission", f"uid {facts.uid} with CAP_NET_ADMIN")
    return _warning(
        "permission",
        f"uid {facts.uid} without CAP_NET_ADMIN: demo and lab work, `up` on this host does not",
        "use sudo",
    )


def nft(facts: Facts) -> Check:
    """The program reads back and opens; the library applies."""
    if facts.nft is None:
        return _problem("nftables", "the program nft is not installed", "apt-get install nftables")
    if facts.libnftables is False:
        return _problem("nftables", "libnftables.so.1 is not installed", "apt-get install libnftables1")
    if facts.nft_error:
        return _problem("nftables", f"the kernel refuses a table: {facts.nft_error}", "modprobe nf_tables, as root")
    if facts.nft_error is None:
        return _unknown("nftables", f"nft {facts.nft}; no namespace to try a table in", "apt-get install util-linux")
    return _good("nftables", f"nft {facts.nft}, and the kernel takes tables")


def logging(facts: Facts) -> Check:
    """Rules tell of what they decide over NFLOG; a kernel that cannot takes none of our rules."""
    if facts.log_error is None or facts.nft_error != "":
        return _unknown("flows", "no table to try a rule in", "apt-get install util-linux nftables")
    if facts.log_error:
        return _problem(
            "flows",
            f"the kernel refuses a rule that logs: {facts.log_error}",
            "modprobe nft_log nfnetlink_log, as root (CONFIG_NFT_LOG, CONFIG_NETFILTER_NETLINK_LOG)",
        )
    return _good("flows", "the kernel tells what rules decide")


def iproute(facts: Facts) -> Check:
    """The lab makes its links with ip."""
    return (
        _good("iproute2", "ip is installed")
        if facts.ip
        else _problem("iproute2", "the program ip is not installed", "apt-get install iproute2")
    )


def userns(facts: Facts) -> Check:
    """Without root, demo and lab live in a user namespace."""
    if facts.userns_error is None:
        return _unknown("user namespaces", "unshare is not installed", "apt-get install util-linux")
    if facts.userns_error:
        return _warning(
            "user namespaces",
            f"refused: {facts.userns_error}; demo and lab need root",
            "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 "
            "kernel.apparmor_restrict_unprivileged_userns=0   (those that exist)",
        )
    return _good("user namespaces", "allowed: demo and lab need no root")


def ownership(facts: Facts) -> Check:
    """Owned, persistent tables cannot be changed by others and outlive a killed agent."""
    if _release(facts.kernel) >= OWNED_SINCE:
        return _good("table ownership", "owner and persist: others cannot change our tables")
    return _warning(
        "table ownership",
        f"kernel {facts.kernel} has no persistent owner (6.9 has): another program may change our tables; they are "
        "watched and repaired",
        "boot a kernel of 6.9 or later",
    )


def tracking(facts: Facts) -> Check:
    """A full table drops packets, in visibility too."""
    if facts.tracked is None or not facts.tracked_limit:
        return _unknown("connection tracking", "its limit cannot be read", "modprobe nf_conntrack, as root")
    share = facts.tracked / facts.tracked_limit
    found = f"{facts.tracked} of {facts.tracked_limit} entries ({share:.0%})"
    more = f"sysctl -w net.netfilter.nf_conntrack_max={max(facts.tracked_limit * 4, 262_144)}"
    if share >= NEARLY_FULL:
        return _problem("connection tracking", f"{found}: a full table drops packets", more)
    if facts.tracked_limit < SMALL_TABLE:
        return _warning("connection tracking", f"{found}: a small table", more)
    return _good("connection tracking", found)


def bridged(facts: Facts) -> Check:
    """Traffic that stays on one bridge is judged with state in one of two ways."""
    on = [name for name, value in facts.bridge_nf if value]
    off = [name for name, value in facts.bridge_nf if not value]
    if facts.bridge_nf and not off:
        return _good("bridged traffic", "judged in the inet family (bridge-nf-call-iptables, -ip6tables are 1)")
    if facts.bridge_conntrack:
        if not on:
            return _good("bridged traffic", "judged in the bridge family (nf_conntrack_bridge)")
        return _warning(
            "bridged traffic", f"{', '.join(off)} is 0 and {', '.join(on)} is 1", f"sysctl -w net.bridge.{off[0]}=1"
        )
    if facts.bridge_conntrack is None and not facts.bridge_nf:
        return _unknown("bridged traffic", "neither way could be tried", "run it again as root")
    return _warning(
        "bridged traffic",
        "cannot be judged with state here: full and selective are refused on a bridge",
        "modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1",
    )


def marks(facts: Facts) -> Check:
    """Mark bits are shared by everybody on a machine."""
    if facts.rules is None:
        return _unknown("mark bits", "the kernel's rules cannot be read", "run it again as root")
    clashing = sorted({f"{write.table} ({write.where} mark)" for write in facts.rules.marks if _clashes(write)})
    unreadable = sorted({write.table for write in facts.rules.marks if write.bits is None})
    if clashing:
        return _problem(
            "mark bits", f"{', '.join(clashing)} writes bits that Stockade uses", f"leave {_ours()} alone there"
        )
    if unreadable:
        return _unknown(
            "mark bits", f"{', '.join(unreadable)} sets marks that nft does not show", "iptables-save -t mangle"
        )
    return _good("mark bits", f"nobody else writes {_ours()}")


def others(facts: Facts) -> Check:
    """Stockade's yes does not overrule another table's drop."""
    if facts.rules is None:
        return _unknown("other tables", "the kernel's rules cannot be read", "run it again as root")
    dropping = [chain for chain in facts.rules.chains if chain.drops]
    if dropping:
        named = ", ".join(f"{c.family} {c.table} {c.chain} ({c.hook}, priority {c.priority})" for c in dropping)
        return _warning(
            "other tables",
            f"may drop what Stockade allows: {named}",
            "nothing, where that is meant; `stockade explain` names them",
        )
    return _good("other tables", f"{len(facts.rules.chains)} base chains of others, none drops by itself")


def hooks(facts: Facts) -> Check:
    """A tc or XDP program sees packets before any table does."""
    if facts.hooks_listed:
        return _good("hooks", "the kernel lists who is attached where")
    return _unknown(
        "hooks",
        "this kernel does not list its hooks: programs of higher priority go unseen",
        "tc filter show, bpftool net",
    )


def docker(facts: Facts) -> Check:
    """The engine is one source of workloads; without it there are others."""
    return _source("docker", "the engine", facts.docker)


def containerd(facts: Facts) -> Check:
    """Another source of workloads: pods, and what other clients than Docker start."""
    return _source("containerd", "containerd", facts.containerd)


def _source(name: str, who: str, it: EngineSocket | None) -> Check:
    if it is None:
        return _unknown(name, "not looked at", "name its socket in the settings")
    if it.error:
        return _problem(name, f"{it.address}: {it.error}", f"start {who}, or ask for access to its socket")
    if not it.there:
        return _good(name, f"no {who.removeprefix('the ')} at {it.address}: containers are not looked for")
    return _good(name, f"{who} at {it.address} answers")


def podman(facts: Facts) -> Check:
    """Podman is another source: root's can be enforced, and users' cannot."""
    it = facts.podman
    if it is None:
        return _unknown("podman", "not looked at", "run it again as root")
    if not it.there:
        return _good("podman", "not installed: its containers are not looked for")
    if not it.used:
        return _good("podman", "installed, and not used: its containers are not looked for")
    if it.events == "none":
        return _problem(
            "podman",
            "tells no events, so births go unseen",
            'events_logger = "file" in /etc/containers/containers.conf',
        )
    if it.error:
        return _unknown("podman", it.error, "sudo podman info")
    if it.users:
        named = ", ".join(map(str, it.users))
        return _warning(
            "podman",
            f"containers of users ({named}) leave as the host's own: full and selective are refused for them",
            "run as root's what must be enforced",
        )
    return _good("podman", f"root's is followed (events: {it.events})")


def state(facts: Facts) -> Check:
    """Events, versions and audit log need a folder."""
    if facts.state_error:
        return _problem(
            "state folder", f"{facts.state}: {facts.state_error}", "name another one with --state, or use sudo"
        )
    return _good("state folder", facts.state)


def own(facts: Facts) -> Check:
    """Whoever may change what runs as root is root."""
    if facts.files is None:
        return _unknown("own files", "they cannot be looked at", "run it again as root")
    wrong = tuple(files(facts.files))
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return _problem("own files", f"{wrong[0].object}: {wrong[0].seen}{more}", wrong[0].remedy)
    return _good("own files", f"{len(facts.files)} files and folders: nobody else may change them")


CHECKS: tuple[Callable[[Facts], Check], ...] = (
    kernel,
    permission,
    nft,
    logging,
    iproute,
    userns,
    ownership,
    tracking,
    bridged,
    marks,
    others,
    hooks,
    docker,
    podman,
    containerd,
    state,
    own,
)


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _clashes(write: MarkWrite) -> bool:
    ours = MARKS.packet if write.where == "meta" else _connection_bits()
    return bool(write.bits is not None and write.bits & ours)


def _connection_bits() -> int:
    return MARKS.admitted | MARKS.kept | MARKS.older | MARKS.reverse | MARKS.proxied


def _ours() -> str:
    return f"packet bits {MARKS.packet:#010x} and connection bits {_connection_bits():#010x}"


def _good(name: str, found: str) -> Check:
    return Check(name, Judged.GOOD, found)


def _warning(name: str, found: str, remedy: str) -> Check:
    return Check(name, Judged.WARNING, found, remedy)


def _problem(name: str, found: str, remedy: str) -> Check:
    return Check(name, Judged.PROBLEM, found, remedy)


def _unknown(name: str, found: str, remedy: str) -> Check:
    return Check(name, Judged.NOT_ASSESSED, found, remedy)


def worst(found: Iterator[Check] | tuple[Check, ...]) -> Judged:
    """Return how the worst one came out; what was not assessed is worse than good, better than a warning."""
    order = (Judged.GOOD, Judged.NOT_ASSESSED, Judged.WARNING, Judged.PROBLEM)
    return max((check.judged for check in found), key=order.index, default=Judged.GOOD)
