"""What ``doctor`` looks at: this machine as it is, collected as values. Judges nothing, changes nothing.

Kernel features are probed in a network namespace of the probe's own, never in the machine's.
"""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stockade.adapters import podman
from stockade.adapters.own_files import own_files
from stockade.core.compile.nft.recording import statement
from stockade.core.compile.nft.ruleset import TABLE
from stockade.core.posture.host import FileSeen

CAP_NET_ADMIN = 12
PATIENCE = 15.0
"""Seconds for one question to the kernel."""
SBIN = "/usr/sbin:/sbin"
XT_MARKS = {"MARK": "meta", "CONNMARK": "ct"}
OWN_NAMESPACE = ("unshare", "-Urn")
OWN_NAMESPACE_AS_ROOT = ("unshare", "-n")


class ForeignChain(msgspec.Struct, frozen=True, order=True):
    """A base chain of somebody else's. ``drops``: its policy is drop, or one of its own rules drops."""

    family: str
    table: str
    chain: str
    hook: str
    priority: int
    drops: bool = False


class MarkWrite(msgspec.Struct, frozen=True):
    """Somebody else's rule that writes a mark: ``where`` is ``meta`` or ``ct``; ``bits`` None: cannot be read."""

    table: str
    where: str
    bits: int | None = None


class Rules(msgspec.Struct, frozen=True):
    """What the kernel's tables hold besides ours, and whether ours are there."""

    ours: tuple[str, ...] = ()
    chains: tuple[ForeignChain, ...] = ()
    marks: tuple[MarkWrite, ...] = ()


class EngineSocket(msgspec.Struct, frozen=True):
    """The socket of a container engine. ``error`` empty: it takes connections."""

    address: str
    there: bool = False
    error: str = ""


class Podman(msgspec.Struct, frozen=True):
    """Podman. ``events``: how it keeps them; ``users`` run containers without root; ``error`` empty: it answers."""

    there: bool = False
    used: bool = False
    events: str = ""
    users: tuple[int, ...] = ()
    error: str = ""


class Facts(msgspec.Struct, frozen=True):
    """One machine. None: could not be read, and why is not known."""

    kernel: str
    uid: int = 0
    net_admin: bool = True
    nft: str | None = None
    libnftables: bool | None = None
    ip: bool = True
    userns_error: str | None = None
    nft_error: str | None = None
    log_error: str | None = None
    """Why the kernel does not log what a rule decides; None where no table could be tried."""
    bridge_conntrack: bool | None = None
    bridge_nf: tuple[tuple[str, int], ...] = ()
    tracked: int | None = None
    tracked_limit: int | None = None
    rules: Rules | None = None
    hooks_listed: bool | None = None
    podman: Podman | None = None
    docker: EngineSocket | None = None
    containerd: EngineSocket | None = None
    state: str = ""
    state_error: str = ""
    files: tuple[FileSeen, ...] | None = None
    """Our own files; None where they could not be looked at."""


LOGGED = f"add table inet probe; add chain inet probe told; add rule inet probe told {statement('probe')}"


def collect(docker_host: str, state: Path, socket: Path, containerd: str = "") -> Facts:
    """Look at this machine. ``containerd``: where its socket is; empty: it is not looked at."""
    namespace = OWN_NAMESPACE_AS_ROOT if os.geteuid() == 0 else OWN_NAMESPACE
    return Facts(
        kernel=platform.release(),
        uid=os.geteuid(),
        net_admin=_net_admin(),
        nft=_nft_version(),
        libnftables=_libnftables(),
        ip=_program("ip") is not None,
        userns_error=_error(*OWN_NAMESPACE, "true"),
        nft_error=_error(*namespace, "nft", "add table inet probe"),
        log_error=_error(*namespace, "nft", LOGGED),
        bridge_conntrack=_bridge_conntrack(namespace),
        bridge_nf=_bridge_nf(),
        tracked=_number("/proc/sys/net/netfilter/nf_conntrack_count"),
        tracked_limit=_number("/proc/sys/net/netfilter/nf_conntrack_max"),
        rules=_rules(),
        hooks_listed=_hooks_listed(),
        podman=_podman(),
        docker=_engine(docker_host),
        containerd=_engine(f"unix://{containerd.removeprefix('unix://')}") if containerd else None,
        state=str(state),
        state_error=_state_error(state),
        files=_files(state, socket),
    )


# The kernel


def _bridge_conntrack(namespace: tuple[str, ...]) -> bool | None:
    base = "add table bridge probe; add chain bridge probe seen { type filter hook forward priority 0; }"
    if _error(*namespace, "nft", base) != "":
        return None
    return _error(*namespace, "nft", f"{base}; add rule bridge probe seen ct state new") == ""


def _bridge_nf() -> tuple[tuple[str, int], ...]:
    folder = Path("/proc/sys/net/bridge")
    names = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
    return tuple((name, value) for name in names if (value := _number(folder / name)) is not None)


def _hooks_listed() -> bool | None:
    done = _run("nft", "list", "hooks")
    return None if done is None or done.returncode else bool(done.stdout.strip())


def _files(state: Path, socket: Path) -> tuple[FileSeen, ...] | None:
    try:
        return own_files(state, socket)
    except OSError:
        return None


# The rules of others


def _rules() -> Rules | None:
    done = _run("nft", "-j", "list", "ruleset")
    if done is None or done.returncode:
        return None
    try:
        return read_rules(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError):
        return None


def read_rules(document: dict[str, Any]) -> Rules:
    """Read what ``nft -j list ruleset`` prints: its base chains, and the rules that drop or write a mark."""
    objects = document["nftables"]
    rules = [each["rule"] for each in objects if "rule" in each and each["rule"]["table"] != TABLE]
    dropping = {_chain_key(rule) for rule in rules if any("drop" in part for part in rule["expr"])}
    chains = (each["chain"] for each in objects if "chain" in each and each["chain"]["table"] != TABLE)
    return Rules(
        ours=tuple(sorted(_table(each["table"]) for each in objects if _is_ours(each))),
        chains=tuple(sorted(_foreign(chain, dropping) for chain in chains if "hook" in chain)),
        marks=tuple(sorted({write for rule in rules for write in _writes(rule)}, key=_order)),
    )


def _order(write: MarkWrite) -> tuple[str, str, int]:
    return write.table, write.where, -1 if write.bits is None else write.bits


def _is_ours(each: dict[str, Any]) -> bool:
    return "table" in each and each["table"]["name"] == TABLE


def _table(table: dict[str, Any]) -> str:
    return f"{table['family']} {table['name']}"


def _chain_key(rule: dict[str, Any]) -> tuple[str, str, str]:
    return rule["family"], rule["table"], rule["chain"]


def _foreign(chain: dict[str, Any], dropping: set[tuple[str, str, str]]) -> ForeignChain:
    key = chain["family"], chain["table"], chain["name"]
    drops = chain.get("policy") == "drop" or key in dropping
    return ForeignChain(*key, hook=chain["hook"], priority=int(chain["prio"]), drops=drops)


def _writes(rule: dict[str, Any]) -> Iterator[MarkWrite]:
    table = f"{rule['family']} {rule['table']}"
    for part in rule["expr"]:
        written = part.get("mangle", {}).get("key", {})
        for where in ("meta", "ct"):
            if isinstance(written, dict) and written.get(where, {}).get("key") == "mark":
                yield MarkWrite(table, where, _bits(part["mangle"]["value"]))
        if part.get("xt", {}).get("name") in XT_MARKS:
            yield MarkWrite(table, XT_MARKS[part["xt"]["name"]])


def _bits(value: Any) -> int:
    """Return the bits that a written value may change. ``mark | x`` changes x alone; ``mark & x`` all but x."""
    if isinstance(value, dict) and "|" in value:
        left, right = value["|"]
        return _bits(left) | (right if isinstance(right, int) else 0xFFFFFFFF)
    if isinstance(value, dict) and "&" in value:
        left, right = value["&"]
        return (_bits(left) | ~right & 0xFFFFFFFF) if isinstance(right, int) else 0xFFFFFFFF
    if isinstance(value, dict) and any(value.get(where, {}).get("key") == "mark" for where in ("meta", "ct")):
        return 0
    return 0xFFFFFFFF


# Programs, sockets, folders


def _net_admin() -> bool:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(found and int(found[1], 16) >> CAP_NET_ADMIN & 1)


def _nft_version() -> str | None:
    done = _run("nft", "--version")
    found = re.search(r"v([\d.]+)", done.stdout) if done else None
    return found[1] if found else None


def _libnftables() -> bool | None:
    done = _run("ldconfig", "-p")
    return None if done is None or done.returncode else "libnftables.so.1" in done.stdout


def _engine(address: str) -> EngineSocket:
    if not address.startswith("unix://"):
        return EngineSocket(address, error="only unix:// addresses are used")
    path = address.removeprefix("unix://")
    if not Path(path).exists():
        return EngineSocket(address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(path)
        except OSError as problem:
            return EngineSocket(address, there=True, error=problem.strerror or str(problem))
    return EngineSocket(address, there=True)


def _podman() -> Podman:
    """Podman is asked only where it is used already: a first question would make its folders."""
    if not podman.program():
        return Podman()
    if not podman.used():
        return Podman(there=True)
    users = tuple(each.uid for each in podman.accounts())
    done = _run("podman", "info", "--format", "{{.Host.EventLogger}}") if os.geteuid() == 0 else None
    if done is None:
        return Podman(True, True, users=users, error="root's could not be asked")
    said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Podman(True, True, done.stdout.strip(), users, said if done.returncode else "")


def _state_error(state: Path) -> str:
    nearest = next(each for each in (state, *state.parents) if _exists(each))
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} is not writable"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    program = _program(name)
    if program is None:
        return None
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SBIN}", "LC_ALL": "C"}
    try:
        return subprocess.run(
            (program, *arguments), capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _error(name: str, *arguments: str) -> str | None:
    """Return why a command fails; empty where it succeeds, None where it cannot be run."""
    done = _run(name, *arguments)
    if done is None:
        return None
    return "" if not done.returncode else (done.stderr.strip().splitlines() or ["no reason given"])[0]


def _number(path: str | Path) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
