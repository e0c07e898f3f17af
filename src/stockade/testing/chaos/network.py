"""Faults of the kernel's network: rules, switches, links, addresses and tracking changed by somebody else."""

import asyncio
import os
import platform
import signal
from collections.abc import AsyncIterator
from random import Random

from stockade.testing.chaos.fault import fault
from stockade.testing.chaos.ground import Ground
from stockade.testing.steady import Kind

WIRE = (Kind.STREAM, Kind.OPEN)
"""What is lost on a wire that is cut for a moment; a connection that is held lives on."""
NOTHING = "nothing: the kernel refuses it"
SHUT = "what cannot be judged there is shut; a policy that needs it is refused"
PUT_BACK = "`tampered` in the log, or a start; the tables are put back"
UPSETS = (
    "flush ruleset",
    "delete table inet stockade",
    "delete table bridge stockade",
    "flush table inet stockade",
    "insert rule inet stockade forwarding accept",
    "flush chain inet stockade forwarding",
    "rename chain inet stockade forwarding elsewhere",
)
SLEEP = "add table inet stockade { flags dormant; }"
"""The kernel refuses it of a table that was owned and persists, even while nobody owns it."""
FOREIGN = """
table ip nat {
  chain DOCKER { }
  chain PREROUTING { type nat hook prerouting priority -100; fib daddr type local jump DOCKER; }
  chain POSTROUTING { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 oifname != "docker0" masquerade
  }
}
table ip filter {
  chain DOCKER-USER { return
  }
  chain FORWARD { type filter hook forward priority 0; jump DOCKER-USER; }
}
table inet firewalld {
  chain filter_FORWARD { type filter hook forward priority 10; ct state established,related accept; accept
  }
}
"""
WITHOUT = "delete table ip nat; delete table ip filter; delete table inet firewalld"
BURST = 30_000


OWN_MACHINE = "STOCKADE_OWN_MACHINE"
"""Set where the whole machine is the tests' own, as a guest is."""
FIRST_NAMESPACE = ("nsenter", "--net=/proc/1/ns/net", "sh", "-c")
LIMIT = "/proc/sys/net/netfilter/nf_conntrack_max"


def shared(_on: Ground) -> str:
    """Say that the limit of tracked connections is the whole machine's, unless all of that is ours."""
    if os.environ.get(OWN_MACHINE):
        return ""
    return f"nf_conntrack_max belongs to the whole machine, and others would suffer; {OWN_MACHINE}=1 in a guest of ours"


def owned(_on: Ground) -> str:
    """Say that tables are never plain here."""
    return "this kernel (6.9 or later) owns our tables" if _owns() else ""


def plain(_on: Ground) -> str:
    """Say that tables are always plain here."""
    return "" if _owns() else "this kernel (before 6.9) owns no tables"


def _owns() -> bool:
    major, minor = platform.release().split(".")[:2]
    return (int(major), int(minor)) >= (6, 9)


@fault("nothing: the tables are owned, and the kernel leaves them out", missing=plain)
async def ruleset_flushed(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """Everything is flushed."""
    await on.must("nft", "flush", "ruleset")
    yield


@fault(NOTHING, missing=plain)
async def owned_tables_changed(on: Ground, dice: Random) -> AsyncIterator[None]:
    """Somebody changes, deletes or lays to sleep our tables."""
    for upset in (SLEEP, *dice.sample(UPSETS[1:], 4)):
        done = await on.host("nft", "-f", "-", given=f"{upset}\n")
        if done.status == 0:
            on.found.append(f"somebody else could {upset}")
    yield


@fault(PUT_BACK, opens=True, cuts=tuple(Kind))
async def unheld_tables_changed(on: Ground, dice: Random) -> AsyncIterator[None]:
    """Tables that nobody holds are changed, emptied or deleted."""
    await on.end_both()
    await on.must("nft", "-f", "-", given=f"{dice.choice(UPSETS)}\n")
    yield


@fault(PUT_BACK, opens=True, cuts=tuple(Kind), says="tampered", missing=owned)
async def plain_tables_changed(on: Ground, dice: Random) -> AsyncIterator[None]:
    """Plain tables are changed by another program."""
    await on.must("nft", "-f", "-", given=f"{dice.choice(UPSETS)}\n")
    yield


@fault("nothing: nothing outside our tables is touched")
async def foreign_rules(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """Foreign rulesets come and go, Docker's and a firewall's."""
    for _ in range(3):
        await on.must("nft", "-f", "-", given=FOREIGN)
        await on.must("nft", WITHOUT)
    await on.must("nft", "-f", "-", given=FOREIGN)
    yield
    kept = await on.must("nft", "list", "tables")
    if not all(each in kept for each in ("ip nat", "ip filter", "inet firewalld")):
        on.found.append(f"foreign tables are gone: {kept}")
    await on.must("nft", WITHOUT)


@fault(SHUT, cuts=WIRE, refuses=True)
async def bridge_switch(on: Ground, dice: Random) -> AsyncIterator[None]:
    """Bridges no longer show their packets to the packet filter."""
    switch = f"net/bridge/bridge-nf-call-{dice.choice(('iptables', 'ip6tables'))}"
    await on.lab.sysctl(on.lab.host_name, [(switch, "0")])
    yield
    await on.lab.sysctl(on.lab.host_name, [(switch, "1")])


@fault("it is nobody's port there", cuts=WIRE)
async def port_moved(on: Ground, dice: Random) -> AsyncIterator[None]:
    """A bridge port is moved to another bridge and back."""
    port = on.port(dice.choice(("web-1", "api-1", "db-1")))
    await on.must("ip", "link", "set", port, "master", "ops")
    yield
    await on.must("ip", "link", "set", port, "master", "shop")


@fault("nothing", cuts=WIRE)
async def link_flaps(on: Ground, dice: Random) -> AsyncIterator[None]:
    """A link goes down and up."""
    port = on.port(dice.choice(("web-1", "api-1", "db-1", "prometheus")))
    up, down = f"link set {port} up\n", f"link set {port} down\n"
    await on.must("ip", "-batch", "-", given=(down + up) * 4 + down)
    await asyncio.sleep(dice.uniform(0, 0.2))
    await on.must("ip", "-batch", "-", given=up)
    yield


@fault("nothing", cuts=WIRE)
async def address_removed(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """An address of the host is removed and added again."""
    await on.must("ip", "address", "del", "10.20.0.1/24", "dev", "shop")
    yield
    await on.must("ip", "address", "add", "10.20.0.1/24", "dev", "shop")


@fault("`doctor` and a finding say so; what was begun goes on", cuts=WIRE, counts="tracking", missing=shared)
async def tracking_full(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The table of tracked connections is full: the kernel drops whatever begins."""
    limit = await _first(f"cat {LIMIT}")
    entries = await on.must("cat", "/proc/sys/net/netfilter/nf_conntrack_count")
    await _first(f"echo {int(entries)} > {LIMIT}")
    yield
    await _first(f"echo {int(limit)} > {LIMIT}")


async def _first(script: str) -> str:
    """Run a script in the machine's first network namespace: it alone may set what belongs to all."""
    process = await asyncio.create_subprocess_exec(*FIRST_NAMESPACE, script, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0, script
    return said.decode()


@fault(
    "TCP connections that are allowed end and are opened anew: none is taken up in the middle",
    cuts=tuple(Kind),
)
async def tracking_flushed(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """All tracked connections are forgotten."""
    await on.must("conntrack", "-F")
    yield


@fault("the loss is counted; all are listed again", counts="links")
async def links_burst(on: Ground, dice: Random) -> AsyncIterator[None]:
    """More happens to links than the kernel can tell."""
    port = on.port(dice.choice(("intruder", "extra")))
    on.up.send_signal(signal.SIGSTOP)
    lines = "".join(f"link set dev {port} alias a{number}\n" for number in range(BURST))
    await on.must("ip", "-batch", "-", given=lines)
    yield
    on.up.send_signal(signal.SIGCONT)
