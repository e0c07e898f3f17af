"""What one more workload costs where a host has many: compiled, planned, introduced, encoded for the disk."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from bench.figures import Figure, percentile
from stockade.agent.enforcing import Rendered
from stockade.agent.introducing import introductions
from stockade.controller.compiling import Compiling
from stockade.core.compile.compiler import affected
from stockade.core.compile.nft.render import render
from stockade.core.fold import Folding, fold
from stockade.core.model.event import Event, PolicyActivated
from stockade.core.model.ids import Address, RuleId, Version
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import Action, Births, EnforcementMode, Mode, Policy, PolicySet, Rule, Selected
from stockade.core.model.selector import ALL
from stockade.core.policy import complete
from stockade.testing.scenarios import HOST, container, host, host_itself, role
from stockade.wire import Assignment

ROLES, RULES = 20, 60
SIZES = (20, 500)
T = TypeVar("T")


def full_host(count: int) -> Iterator[Figure]:
    """Let so many workloads be born on a host that has some, and on one that has many."""
    for size in SIZES:
        for what, took in _births(size, count).items():
            name = f"a birth on a host of {size}: {what}, p50 of {count}"
            yield Figure(name, percentile(took, 0.5), "ms of one core")


def _births(size: int, count: int) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {}

    def timed(what: str, job: Callable[..., T], *given: object) -> T:
        began = time.process_time()
        done = job(*given)
        spent.setdefault(what, []).append((time.process_time() - began) * 1000)
        return done

    there = map(_container, range(size))
    folding = Folding(fold([host(), host_itself(), *there, PolicyActivated(Version(1), _policy())]))
    compiling, planning = Compiling(bytes(32)), Rendered()
    intent = compiling(folding.snapshot, (), ())[HOST]
    held = render(intent)
    for number in range(size, size + count):
        event, before = _container(number), intent
        touched = affected(event, folding.snapshot)
        intent = timed("compiled", compiling, folding.apply(event), *touched)[HOST]
        held = timed("planned", planning, intent, held).leads_to
        timed("introduced", introductions, before, intent)
        timed("encoded", msgspec.msgpack.encode, Assignment(intent))
    return spent


def _container(number: int) -> Event:
    born = container(f"r{number % ROLES}-{number}", 2)
    (end,) = born.sighting.endpoints
    place = f"{number >> 8:02x}:{number & 255:02x}"
    addresses = (Address(f"10.0.{number >> 8}.{number & 255}"), Address(f"fd00::{number + 2:x}"))
    end = replace(end, addresses=addresses, port=f"veth{number}", mac=f"02:00:00:01:{place}")
    return replace(born, sighting=replace(born.sighting, endpoints=(end,)))


def _policy() -> PolicySet:
    rules = tuple(
        Rule(
            RuleId(f"all/{number}"),
            Action.ALLOW,
            Selected(role(f"r{number % ROLES}")),
            Selected(role(f"r{(number * 7 + 1) % ROLES}")),
            (Ports(Protocol.TCP, 8000 + number, 8000 + number),),
        )
        for number in range(RULES)
    )
    modes = (EnforcementMode("all", ALL, Mode.FULL, births=Births.HOLD),)
    return complete(PolicySet(policies=(Policy("all", rules, ALL),), modes=modes))
