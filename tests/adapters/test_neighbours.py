"""Answers about neighbours reach whoever has asked, and release what it has kept; nobody else heeds them."""

import asyncio
import json
import sys

import msgspec
import pytest

from stockade.core.model.net import Protocol
from stockade.seams.neighbours import Introduction
from stockade.testing.lab import Lab, Topology, bridged, enter, lab_bridge
from stockade.testing.probe import packets

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

GROUND = Topology(
    bridges=(lab_bridge("br0", "10.1.0.0/24", "fd00:1::/64"),),
    nodes=(bridged("newborn", "br0"), bridged("api", "br0"), bridged("stranger", "br0")),
)
HOLD = """
table bridge hold {
  chain prerouting {
    type filter hook prerouting priority 0;
    iifname PORT ether type arp drop
    iifname PORT icmpv6 type nd-neighbor-solicit drop
  }
}
"""
NEVER = str(10 * 60 * 1000)
"""Milliseconds after which a kernel asks again, so that only an answer can help."""
INTRODUCE = """
import sys, msgspec
from stockade.adapters.neighbours import LinkNeighbours
from stockade.seams.neighbours import Introduction
print(LinkNeighbours().introduce(msgspec.json.decode(sys.stdin.buffer.read(), type=Introduction)))
"""


async def introduce(lab: Lab, introduction: Introduction) -> int:
    """Introduce, in the host's network namespace."""
    said = await lab.run("lab", [sys.executable, "-c", INTRODUCE], input=msgspec.json.encode(introduction))
    assert said.status == 0, said.stderr
    return int(said.stdout)


def introduction(lab: Lab, *neighbours: str) -> Introduction:
    own = lab.plugs("newborn")[0]
    told = [
        (lab.address(name, family), "" if name == "lab" else lab.plugs(name)[0].mac)
        for name in neighbours
        for family in (4, 6)
    ]
    return Introduction(own.port, own.mac, own.bare, "br0", tuple(told))


def test_what_was_kept_for_a_link_address_goes_as_soon_as_it_is_told() -> None:
    async def run() -> None:
        async with Lab(GROUND) as lab:
            for name in ("newborn", "api", "lab"):
                await lab.listen(name, Protocol.UDP, 9000)
            await lab.sysctl("newborn", [(f"net/{ip}/neigh/eth0/retrans_time_ms", NEVER) for ip in ("ipv4", "ipv6")])
            await lab.nft(HOLD.replace("PORT", lab.plugs("newborn")[0].port))
            kept = {}
            for other, address in [
                ("api", lab.address("api")),
                ("api", lab.address("api", 6)),
                ("lab", "10.1.0.1"),
                ("lab", "fd00:1::1"),
            ]:
                own, nonce = lab.address("newborn", 6 if ":" in address else 4), lab.nonce()
                segment = packets.udp(own, address, 7000, 9000, nonce.encode())
                assert await lab.inject("newborn", [packets.ip(own, address, packets.UDP, segment)], link="") == [0]
                kept[other, nonce] = address
            await lab.nft("delete table bridge hold")
            assert not any([await lab.seen(*each) for each in kept]), "they wait"
            of = introduction(lab, "api", "stranger")
            gateways = tuple((address, "") for address in ("10.1.0.1", "fd00:1::1"))
            of = msgspec.structs.replace(of, neighbours=(*of.neighbours, *gateways))
            assert await introduce(lab, of) == 6
            for each, address in kept.items():
                assert await lab.seen(*each), address
            heeded = (await lab.run("newborn", ["ip", "neigh"])).stdout
            assert lab.plugs("stranger")[0].mac not in heeded, "nobody asked for it"

    enter()
    asyncio.run(run())


ELSEWHERE = "02:00:00:00:de:ad"


def test_who_knew_its_addresses_as_anothers_finds_it_and_nobody_else_takes_note() -> None:
    async def run() -> None:
        async with Lab(GROUND) as lab:
            own = [lab.address("newborn", family) for family in (4, 6)]
            links = {"api": "eth0", "stranger": "eth0", "lab": "br0"}
            for name, state in (("api", "stale"), ("api", "reachable"), ("stranger", "permanent")):
                for address in own if state != "reachable" else own[:1]:
                    await known(lab, name, links[name], address, state)
            await known(lab, "lab", "br0", own[0], "stale")
            await known(lab, "lab", "br0", own[1], "permanent")
            await lab.run("newborn", ["ip", "neigh", "flush", "all"])
            assert await introduce(lab, introduction(lab)) == 0
            mac = lab.plugs("newborn")[0].mac
            assert [await at(lab, "api", each) for each in own] == [mac, mac]
            assert [await at(lab, "stranger", each) for each in own] == [ELSEWHERE, ELSEWHERE], "set by hand"
            assert [await at(lab, "lab", each) for each in own] == [mac, ELSEWHERE]
            assert [await at(lab, "newborn", each) for each in own] == ["", ""]
            again = msgspec.structs.replace(introduction(lab), new=False)
            await known(lab, "lab", "br0", own[0], "stale")
            await introduce(lab, again)
            assert await at(lab, "lab", own[0]) == ELSEWHERE, "they have heard of it"

    enter()
    asyncio.run(run())


async def known(lab: Lab, name: str, link: str, address: str, state: str) -> None:
    words = ["ip", "neigh", "replace", address, "lladdr", ELSEWHERE, "dev", link, "nud", state]
    assert (await lab.run(name, words)).status == 0


async def at(lab: Lab, name: str, address: str) -> str:
    """Return the link address at which somebody knows an address; empty where it knows of none."""
    said = (await lab.run(name, ["ip", "-j", "neigh", "show", "to", address])).stdout
    return next((each.get("lladdr", "") for each in json.loads(said)), "")


def test_an_endpoint_that_is_gone_meanwhile_is_an_os_error() -> None:
    async def run() -> None:
        async with Lab(GROUND) as lab:
            gone = introduction(lab, "api")
            await lab.remove("newborn")
            script = INTRODUCE.replace("print(", "try: print(").rstrip() + "\nexcept OSError: print(-1)\n"
            said = await lab.run("lab", [sys.executable, "-c", script], input=msgspec.json.encode(gone))
            assert said.stdout.strip() == "-1", said.stderr

    enter()
    asyncio.run(run())
