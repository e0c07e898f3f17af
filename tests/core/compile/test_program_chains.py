"""A program's chains are remembered from one rendering to the next, and nothing of what was rendered besides."""

import pytest

from stockade.core.compile.nft.programs import known_networks, network_name, program_chains
from stockade.core.compile.nft.view import CONNECTION, PACKET, View
from stockade.core.model.ids import Prefix, ProgramId, RuleId
from stockade.core.model.intent import Line, Peers, PrefixSet, Program, Tier
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
