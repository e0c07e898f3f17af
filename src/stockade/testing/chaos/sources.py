"""Faults of the source that tells of workloads, and names, addresses and ports that somebody else has at once."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

from stockade.core.model.net import Protocol
from stockade.testing.chaos.fault import fault
from stockade.testing.chaos.ground import Ground
from stockade.testing.lab import Node, bridged
from stockade.testing.probe.values import Probe

LISTED = "`source-lost` in the log; asked again, it lists everything"
NONSENSE = (b"\xff\xfe\n", b"{}\n", b'{"type": "Seen"}\n', b"[" * 2000 + b"\n", b'{"type":"Gone","id":7,"at":"x"}\n')


@fault("a newborn waits")
async def source_hangs(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The source hangs, and tells late."""
    on.on.teller.hold()
    yield
    on.on.teller.go_on()


@fault(LISTED, says="source-lost")
async def source_hangs_up(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The source hangs up, again and again."""
    for _ in range(5):
        on.on.teller.hang_up()
        await asyncio.sleep(dice.uniform(0, 0.3))
    yield


@fault(LISTED, says="source-lost")
async def source_restarts(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The source is gone, and comes back."""
    path = on.state / "lab.sock"
    away = path.rename(on.state / "lab.away")
    on.on.teller.hang_up()
    yield
    away.rename(path)


@fault("nothing: a repeat is harmless")
async def source_repeats(on: Ground, _dice: Random) -> AsyncIterator[None]:
    """The source repeats itself."""
    for _ in range(20):
        on.on.tell_all()
    yield


@fault("what was lost is found by the next listing")
async def source_loses(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The source loses events."""
    node = _like_web(f"unheard-{dice.randrange(1 << 20)}")
    on.on.teller.hold()
    await on.lab.add(node)
    on.on.teller.tell(on.lab.sighting(node.name))
    yield
    on.on.teller.gone(on.lab.sighting(node.name).id)
    await on.lab.remove(node.name)
    on.on.teller.lose()
    on.on.teller.go_on()
    on.on.teller.hang_up()


@fault(LISTED, says="source-lost")
async def source_nonsense(on: Ground, dice: Random) -> AsyncIterator[None]:
    """The source tells nonsense."""
    on.on.teller.say(dice.choice(NONSENSE))
    yield
    on.on.tell_all()


@fault("what is tracked of the old one goes with it")
async def address_reused(on: Ground, dice: Random) -> AsyncIterator[None]:
    """An address is somebody else's within a second."""
    number = dice.randrange(1 << 20)
    first = _like_web(f"first-{number}")
    await _live(on, first, expected=True)
    address = on.lab.address(first.name)
    await _die(on, first)
    second = bridged(f"second-{number}", "shop", address, app="intruder")
    await _live(on, second, expected=False)
    yield
    await _die(on, second)


@fault("its labels are the new one's alone")
async def name_reused(on: Ground, dice: Random) -> AsyncIterator[None]:
    """A name and an id are somebody else's within a second."""
    name = f"twice-{dice.randrange(1 << 20)}"
    first = _like_web(name)
    await _live(on, first, expected=True)
    await _die(on, first)
    await _live(on, bridged(name, "ops", app="intruder"), expected=False)
    yield
    await _die(on, first)


@fault("the port is vouched for as what it is now")
async def port_reused(on: Ground, dice: Random) -> AsyncIterator[None]:
    """A port's name is another link's within a second."""
    number = dice.randrange(1 << 20)
    first, second = _like_web(f"port-{number}"), bridged(f"heir-{number}", "shop", app="intruder")
    await _live(on, first, expected=True)
    port = on.port(first.name)
    await _die(on, first)
    await on.lab.add(second)
    await on.must("ip", "link", "set", on.port(second.name), "down")
    await on.must("ip", "link", "set", on.port(second.name), "name", port)
    await on.must("ip", "link", "set", port, "up")
    await _tries(on, second.name, expected=False)
    yield
    await _die(on, second)


def _like_web(name: str) -> Node:
    return bridged(name, "shop", app="shop", env="prod", role="web")


async def _live(on: Ground, node: Node, *, expected: bool) -> None:
    """Have a workload born and told of; it asks ``api-1`` for a name, from the same port as the one before it."""
    await on.lab.add(node)
    on.on.teller.tell(on.lab.sighting(node.name))
    if expected:
        await on.whole()
    await _tries(on, node.name, expected=expected)


async def _tries(on: Ground, name: str, *, expected: bool) -> None:
    asked = Probe(name, "api-1", Protocol.UDP, 53, source_port=5353)
    denied = Probe(name, "db-1", Protocol.UDP, 7101, source_port=5353)
    async with on.turn:
        results = await on.lab.probe([asked, denied], patience=1.0, listen=False)
    if results[1].delivered or (results[0].delivered and not expected):
        on.found.append(f"{name} got through: {[each.probe.destination for each in results if each.delivered]}")


async def _die(on: Ground, node: Node) -> None:
    on.on.teller.gone(on.lab.sighting(node.name).id)
    await on.lab.remove(node.name)
