"""A program's chains are remembered from one rendering to the next, and nothing of what was rendered besides."""

import pytest
from msgspec.structs import replace

from stockade.core.compile.nft.programs import ProgramChains, known_networks, program_chains
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.view import CONNECTION, PACKET, View
from stockade.core.model.ids import Address, HostId, Prefix, ProgramId, Revision, RuleId, Version
from stockade.core.model.intent import Intent, Line, Peers, PrefixSet, Program, PublishedPort, Tier
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Births, Mode

HOST = HostId("host-a")
WEB = Line(Tier.ALLOW, RuleId("web"), Peers("pweb"), (Ports(Protocol.TCP, 80, 90),))
OFFICE = Line(Tier.ALLOW, RuleId("office"), Peers("office", networks=True), (Ports(Protocol.TCP, 85, 85),))
PROGRAM = Program(ProgramId("p"), Mode.FULL, ingress=(WEB, OFFICE))
OFFICES = PrefixSet("office", (Prefix("192.0.2.0/24"),))
NETWORKS = known_networks([OFFICES])


@pytest.mark.parametrize("view", [CONNECTION, PACKET])
def test_what_is_added_to_a_copy_is_not_in_the_next(view: View) -> None:
    fresh = ProgramChains(PROGRAM, Direction.INGRESS, view, NETWORKS)
    program_chains(PROGRAM, Direction.INGRESS, view, NETWORKS).copy().slice_for(Protocol.UDP, 53)
    after = program_chains(PROGRAM, Direction.INGRESS, view, NETWORKS)
    assert (after.entry, after.chains) == (fresh.entry, fresh.chains)


def test_what_one_rendering_adds_is_not_in_the_next() -> None:
    plain = Intent(HOST, Revision(1), Version(1), Births.PASS, programs=(PROGRAM,), networks=(OFFICES,))
    port = PublishedPort(Protocol.UDP, 53, (Address("192.0.2.1"),), Address("10.0.0.5"), 53, PROGRAM.id)
    program_chains.cache_clear()
    before = render(plain)
    assert render(replace(plain, published=(port,))).tables[0].chains.keys() > before.tables[0].chains.keys()
    assert render(plain) == before


def test_a_network_that_gained_another_family_makes_other_chains() -> None:
    both = known_networks([PrefixSet("office", ("192.0.2.0/24", "2001:db8::/32"))])
    one = program_chains(PROGRAM, Direction.INGRESS, CONNECTION, NETWORKS)
    other = program_chains(PROGRAM, Direction.INGRESS, CONNECTION, both)
    assert one.entry != other.entry


def test_a_network_that_nobody_made_is_refused() -> None:
    with pytest.raises(KeyError):
        program_chains(PROGRAM, Direction.INGRESS, CONNECTION, known_networks([]))
