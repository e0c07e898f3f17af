"""A program's chains are remembered from one rendering to the next, and nothing of what was rendered besides."""

import re
from collections.abc import Mapping
from random import Random

import pytest

from stockade.core.compile.nft.programs import (
    FEW,
    LARGE,
    REFUSED,
    ProgramChains,
    known_networks,
    large_peers,
    network_name,
    program_chains,
)
from stockade.core.compile.nft.rule import counter
from stockade.core.compile.nft.view import CONNECTION, PACKET, View
from stockade.core.model.ids import Address, Prefix, ProgramId, RuleId
from stockade.core.model.intent import AddressSet, Line, Peers, PrefixSet, Program, Tier
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Mode

WEB = Line(Tier.ALLOW, RuleId("web"), Peers("pweb"), (Ports(Protocol.TCP, 80, 90),))
OFFICE = Line(Tier.ALLOW, RuleId("office"), Peers("office", networks=True), (Ports(Protocol.TCP, 85, 85),))
PROGRAM = Program(ProgramId("p"), Mode.FULL, ingress=(WEB, OFFICE))
OFFICES = PrefixSet("office", (Prefix("192.0.2.0/24"),))
NETWORKS = known_networks([OFFICES])


@pytest.mark.parametrize("view", [CONNECTION, PACKET])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP, Protocol.SCTP])
@pytest.mark.parametrize("port", [1, 79, 80, 85, 86, 90, 91, 65535])
def test_each_service_has_a_chain_from_the_beginning(view: View, protocol: Protocol, port: int) -> None:
    """Chains are shared by all renderings, so none may be added later."""
    made = program_chains(PROGRAM, Direction.INGRESS, view, NETWORKS)
    before = dict(made.chains)
    assert made.slice_for(protocol, port) in before
    assert made.chains == before


def test_a_service_is_judged_by_the_lines_that_speak_of_it() -> None:
    made = program_chains(PROGRAM, Direction.INGRESS, CONNECTION, NETWORKS)
    told = {port: " ".join(made.chains[made.slice_for(Protocol.TCP, port)].rules) for port in (79, 80, 85)}
    assert ["@pweb" in told[port] for port in told] == [False, True, True]
    assert [network_name("office") in told[port] for port in told] == [False, False, True]


def test_a_network_that_gained_another_family_makes_other_chains() -> None:
    both = known_networks([PrefixSet("office", ("192.0.2.0/24", "2001:db8::/32"))])
    one = program_chains(PROGRAM, Direction.INGRESS, CONNECTION, NETWORKS)
    other = program_chains(PROGRAM, Direction.INGRESS, CONNECTION, both)
    assert one.entry != other.entry


def test_a_network_that_nobody_made_is_refused() -> None:
    with pytest.raises(KeyError):
        program_chains(PROGRAM, Direction.INGRESS, CONNECTION, known_networks([]))


def _found(made: ProgramChains, peers: Mapping[str, frozenset[str]], address: str) -> tuple[str, int]:
    """Return the rule that decides about a UDP packet from an IPv4 address, by its counter, and how many were tried."""
    members = {name: frozenset().union(*map(peers.__getitem__, some)) for name, some in made.together.items()} | peers
    rules, tried = list(made.chains[made.slice_for(Protocol.UDP, 9)].rules), 0
    while rules:
        text = rules.pop(0)
        tried += "ip saddr" in text
        if "ip6" in text or any(
            (address in members[name]) == bool(other) for other, name in re.findall(r"saddr (!= )?@(\w+)_4", text)
        ):
            continue
        if counted := re.search(r"counter name (\w+)", text):
            return counted[1], tried
        if into := re.search(r" goto (\w+)", text):
            rules = list(made.chains[into[1]].rules)
    raise AssertionError("nothing decided")


@pytest.mark.parametrize("seed", range(40))
def test_of_many_lines_the_first_that_speaks_of_somebody_decides(seed: int) -> None:
    """Whatever stands between them: denies that spare connections, and peers of too many addresses."""
    random = Random(seed)
    everybody = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(3 * LARGE)]
    sizes = random.choices((0, 1, 3, LARGE + 1), (1, 5, 5, 0.2), k=40)
    peers = {f"p{n}": frozenset(random.sample(everybody, size)) for n, size in enumerate(sizes)}
    lines = tuple(
        sorted(
            Line(
                random.choice((Tier.OVERRIDE_DENY, Tier.ALLOW, Tier.DENY)),
                RuleId(f"r/{number:04}"),
                Peers(random.choice(list(peers))),
                keep=random.random() < 0.05,
            )
            for number in range(random.choice((7, 8, 9, 64, 65, 600)))
        )
    )
    program = Program(ProgramId("p"), Mode.FULL, ingress=lines)
    large = large_peers(AddressSet(name, tuple(Address(each) for each in some)) for name, some in peers.items())
    made = program_chains(program, Direction.INGRESS, PACKET, NETWORKS, large)
    for address in random.sample(everybody, 60):
        wanted = next((counter(each.rule) for each in lines if address in peers[each.peers.name]), REFUSED)
        assert _found(made, peers, address)[0] == wanted


def test_a_packet_tries_few_of_many_lines() -> None:
    lines = tuple(Line(Tier.ALLOW, RuleId(f"r/{n:04}"), Peers(f"p{n}")) for n in range(FEW**3))
    made = program_chains(Program(ProgramId("p"), Mode.FULL, ingress=lines), Direction.INGRESS, PACKET, NETWORKS)
    members = {f"p{n}": frozenset({f"10.0.{n // 250}.{n % 250}"}) for n in range(FEW**3)}
    tried = [_found(made, members, next(iter(members[f"p{n}"])))[1] for n in range(FEW**3)]
    assert max(tried) == 3 * FEW
    assert _found(made, members, "192.0.2.1") == (REFUSED, FEW)
    assert sum(len(some) for some in made.together.values()) == 2 * FEW**3, "each stands in two blocks"
