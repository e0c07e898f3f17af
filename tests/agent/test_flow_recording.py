"""Packets that were decided about become flows: connections, not packets, are counted, under the right names."""

import ipaddress

import msgspec
import pytest

from stockade.agent.flows import recording
from stockade.agent.flows.names import NOBODY, Behind, Names, names
from stockade.agent.flows.recording import Recording, local_socket
from stockade.core.compile.nft.marks import MARKS
from stockade.core.compile.nft.recording import Prefix, Said, prefix, read
from stockade.core.compile.nft.rule import short
from stockade.core.model.flow import Verdict, Via
from stockade.core.model.flow_table import flows
from stockade.core.model.ids import Address, HostId, Revision, RuleId, Version, WorkloadId
from stockade.core.model.intent import Intent, LocalEnd, PublishedPort
from stockade.core.model.inventory import Attachment
from stockade.core.model.net import Protocol
from stockade.core.model.packet import Direction
from stockade.core.model.policy import Births, Where
from stockade.seams.flows import Decision, Ended, LocalSocket

WEB, DB = WorkloadId("docker:h:web"), WorkloadId("docker:h:db")
RULE = RuleId("shop/web-to-db")
KNOWN = Names(
    {short(RULE): RULE},
    {Address("10.0.0.1"): WEB, Address("10.0.0.2"): DB},
    {(6, Address("192.0.2.1"), 8080): Behind(Address("10.0.0.2"), 5432)},
)
ALLOWED = prefix(Direction.INGRESS, Said.ALLOWED, RULE).encode()
DENIED = prefix(Direction.EGRESS, Said.DENIED, "default", own=True).encode()


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def decision(words: bytes = ALLOWED, nonce: bytes = b"\x0f\xa0abcd", *, protocol: int = 6, to: str = "10.0.0.2",
             port: int = 5432, length: int = 60) -> Decision:  # fmt: skip
    return Decision(words, protocol, packed("10.0.0.1"), packed(to), port, nonce, length)


def over(mark: int = MARKS.admitted, *, to: str = "10.0.0.2", port: int = 5432, opened_to: str = "",
         opened_port: int = 0, source: str = "10.0.0.1") -> Ended:  # fmt: skip
    opened = packed(opened_to or to)
    return Ended(6, packed(source), packed(to), port, opened, opened_port or port, mark, 12, 700, 900, 2.5)


def taken(*decisions: tuple[float, Decision], ended: tuple[tuple[float, Ended], ...] = (), known: Names = KNOWN):
    made = Recording()
    for at, each in decisions:
        made.decided([each], at)
    for at, each in ended:
        made.ended([each], at)
    return tuple(flows(made.take(known)))


@pytest.mark.parametrize("way", Direction)
@pytest.mark.parametrize("said", Said)
def test_a_prefix_says_what_was_decided(way: Direction, said: Said) -> None:
    assert read(prefix(way, said, RULE)) == Prefix(way, said, short(RULE))
    assert read(prefix(way, said, "held", own=True)) == Prefix(way, said, "held")
    assert len(prefix(way, said, RULE)) < 64, "the kernel cuts what is longer"


@pytest.mark.parametrize("text", ["", "e", "ea", "xar1", "ezr1", "edge of the world"[2:]])
def test_what_is_no_prefix_of_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"prefix|Said"):
        read(text)


def test_a_connection_is_told_under_its_rule_with_whose_ends_it_has() -> None:
    (flow,) = taken((10.0, decision()))
    assert (flow.key.source, flow.key.destination, flow.key.protocol, flow.key.port) == (
        "10.0.0.1",
        "10.0.0.2",
        6,
        5432,
    )
    assert (flow.key.end, flow.key.verdict, flow.key.rule) == (Direction.INGRESS, Verdict.ALLOWED, RULE)
    assert (flow.key.source_workload, flow.key.destination_workload) == (WEB, DB)
    assert (flow.tally.first, flow.tally.last, flow.tally.connections, flow.tally.packets) == (10.0, 10.0, 1, 1)
    assert flow.tally.bytes_out == 60


def test_a_repeated_syn_is_the_same_connection_and_another_sequence_number_is_another() -> None:
    (flow,) = taken(
        (10.0, decision(DENIED)),
        (11.0, decision(DENIED)),
        (75.0, decision(DENIED)),
        (76.0, decision(DENIED, b"\x0f\xa0wxyz")),
    )
    assert (flow.key.rule, flow.key.verdict) == ("default", Verdict.DENIED)
    assert (flow.tally.connections, flow.tally.packets, flow.tally.bytes_out) == (2, 4, 240)


def test_what_is_repeated_counts_once_though_a_batch_lies_between() -> None:
    made = Recording()
    made.decided([decision(DENIED)], 10.0)
    assert next(flows(made.take(KNOWN))).tally.connections == 1
    made.decided([decision(DENIED)], 13.0)
    (flow,) = flows(made.take(KNOWN))
    assert (flow.tally.connections, flow.tally.packets) == (0, 1)


@pytest.mark.parametrize(("gap", "connections"), [(29.0, 1), (31.0, 2)])
def test_a_datagram_long_after_is_a_connection_of_its_own(gap: float, connections: int) -> None:
    one = decision(DENIED, b"\x0f\xa0", protocol=17, port=53)
    (flow,) = taken((10.0, one), (10.0 + gap, one))
    assert flow.tally.connections == connections


def test_what_may_be_repeated_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "REMEMBERED", 100)
    made = Recording()
    for number in range(1000):
        made.decided([decision(DENIED, number.to_bytes(6, "big"))], 10.0 + number / 100)
        assert len(made._seen) <= 101
    (flow,) = flows(made.take(KNOWN))
    assert flow.tally.connections == 1000
    made.decided([decision(DENIED, (999).to_bytes(6, "big"))], 20.1)
    assert next(flows(made.take(KNOWN))).tally.connections == 0, "the newest are remembered"


def test_what_ended_connections_carried_is_told_without_a_rule() -> None:
    (flow,) = taken(ended=((20.0, over()), (21.0, over())))
    assert (flow.key.verdict, flow.key.rule, flow.key.end, flow.key.via) == (
        Verdict.CARRIED,
        "",
        Direction.INGRESS,
        Via.DIRECT,
    )
    tally = flow.tally
    assert (tally.connections, tally.ended, tally.packets, tally.bytes_out, tally.bytes_in) == (0, 2, 24, 1400, 1800)
    assert (tally.first, tally.last, tally.seconds) == (17.5, 21.0, 5.0)


def test_what_leaves_the_host_is_told_from_its_source_s_end() -> None:
    (flow,) = taken(ended=((20.0, over(to="198.51.100.7")),))
    assert (flow.key.end, flow.key.source_workload, flow.key.destination_workload) == (Direction.EGRESS, WEB, None)


def test_a_translated_connection_tells_what_it_was_opened_to() -> None:
    (flow,) = taken(ended=((20.0, over(opened_to="192.0.2.9", opened_port=80)),))
    assert (flow.key.destination, flow.key.port) == ("10.0.0.2", 5432)
    assert (flow.key.via, flow.key.service) == (Via.TRANSLATED, "192.0.2.9:80")


def test_a_proxied_connection_is_one_from_the_real_source_to_the_real_destination() -> None:
    """Its first leg ends at the host's published port; the second would tell of it again, from the host."""
    flows = taken(
        (10.0, decision(to="192.0.2.1", port=8080)),
        ended=(
            (20.0, over(to="192.0.2.1", port=8080)),
            (20.0, over(MARKS.admitted | MARKS.proxied, source="192.0.2.1")),
        ),
    )
    assert {(each.key.verdict, each.key.source, each.key.destination, each.key.port) for each in flows} == {
        (Verdict.ALLOWED, "10.0.0.1", "10.0.0.2", 5432),
        (Verdict.CARRIED, "10.0.0.1", "10.0.0.2", 5432),
    }
    assert {(each.key.via, each.key.service) for each in flows} == {(Via.PROXY, "192.0.2.1:8080")}


@pytest.mark.parametrize("strange", [over(0), over(source="127.0.0.1"), over(source="::1", to="::1")])
def test_what_no_hook_of_ours_let_pass_and_what_never_leaves_is_not_told(strange: Ended) -> None:
    assert taken(ended=((20.0, strange),)) == ()


def test_a_rule_that_nobody_knows_is_told_by_its_short_name_and_strange_words_not_at_all() -> None:
    flows = taken((10.0, decision()), (10.0, decision(b"hello")), known=NOBODY)
    assert [each.key.rule for each in flows] == [short(RULE)]


def test_flows_are_sorted_whatever_the_order_in_which_they_came() -> None:
    some = [decision(port=port, to=to) for port in (443, 80) for to in ("10.0.0.2", "10.0.0.3")]
    assert taken(*((10.0, each) for each in some)) == taken(*((10.0, each) for each in reversed(some)))


# Programs


HERE = KNOWN._replace(places={Address("10.0.0.1"): "veth1", Address("10.0.0.2"): "veth2", Address("10.0.0.9"): ""})


def test_the_socket_at_the_judging_end() -> None:
    made = Recording()
    made.decided([decision(DENIED), decision(), decision(to="192.0.2.1", port=8080), decision(to="10.0.0.9")], 10.0)
    one, two = packed("10.0.0.1"), packed("10.0.0.2")
    assert [local_socket(each, HERE) for each in made.fresh()] == [
        LocalSocket("veth1", 6, one, 4000, two, 5432, serves=False),
        LocalSocket("veth2", 6, two, 5432, one, 4000, serves=True),
        LocalSocket("veth2", 6, two, 5432, one, 4000, serves=True),
        LocalSocket("", 6, packed("10.0.0.9"), 5432, one, 4000, serves=True),
    ]
    assert made.fresh() == []


def test_an_end_that_is_not_here_and_what_has_no_ports_has_no_socket() -> None:
    made = Recording()
    strange = decision(protocol=1, nonce=b"\0\1"), decision(nonce=b""), decision(to="10.0.0.3"), decision(b"hello")
    made.decided(strange, 10.0)
    assert [local_socket(each, HERE) for each in made.fresh()] == [None] * 4


def test_some_of_each_key_s_connections_are_asked_about_in_each_batch_and_repetitions_are_not() -> None:
    made = Recording()
    made.decided([decision(nonce=number.to_bytes(6, "big")) for number in range(100)] * 2, 10.0)
    assert len(made.fresh()) == recording.LOOKED_AT
    made.take(KNOWN)
    made.decided([decision(nonce=number.to_bytes(6, "big")) for number in range(90, 110)], 12.0)
    assert len(made.fresh()) == recording.LOOKED_AT


def test_a_flow_names_every_program_that_was_met_in_its_batch_alone() -> None:
    made = Recording()
    made.decided([decision(), decision(nonce=b"other!"), decision(DENIED)], 10.0)
    first, second, _ = made.fresh()
    made.met(first, "wget")
    made.met(second, "curl")
    made.met(second, "curl")
    assert {each.key.rule: each.key.process for each in flows(made.take(KNOWN))} == {RULE: "curl, wget", "default": ""}
    made.decided([decision()], 12.0)
    assert [each.key.process for each in flows(made.take(KNOWN))] == [""]


# Names


def intent(*rules: str, ends: tuple[LocalEnd, ...] = (), published: tuple[PublishedPort, ...] = ()) -> Intent:
    return Intent(
        HostId("h"), Revision(1), Version(1), Births.PASS, ends=ends, published=published,
        rules=tuple((RuleId(each), Where()) for each in rules),
    )  # fmt: skip


def end(workload: WorkloadId | None, *addresses: str) -> LocalEnd:
    return LocalEnd(workload, "it", Attachment.BRIDGED, tuple(map(Address, addresses)))


def test_rules_of_intents_before_are_remembered_and_the_newest_say_whose_addresses_are() -> None:
    first = names(intent("a/1", ends=(end(WEB, "10.0.0.1"),)))
    second = names(intent("a/2", ends=(end(DB, "10.0.0.1"), end(None, "10.0.0.9"))), first)
    assert set(second.rules.values()) == {"a/1", "a/2"}
    assert second.workloads == {"10.0.0.1": DB}


def test_an_address_of_two_is_nobody_s() -> None:
    assert names(intent(ends=(end(WEB, "10.0.0.1", "fd00::1"), end(DB, "10.0.0.1")))).workloads == {"fd00::1": WEB}


def test_where_an_address_is_met() -> None:
    """Behind its link, or on the host itself; where its packets do not cross the host's stack, nowhere."""
    port = msgspec.structs.replace(end(WEB, "10.0.0.1"), port="veth1")
    host = msgspec.structs.replace(end(DB, "192.0.2.1"), attachment=Attachment.HOST)
    opaque = msgspec.structs.replace(end(WorkloadId("x"), "10.0.0.7"), attachment=Attachment.OPAQUE)
    contested = msgspec.structs.replace(end(DB, "10.0.0.8"), port="veth3"), end(WEB, "10.0.0.8")
    found = names(intent(ends=(port, host, opaque, *contested))).places
    assert found == {"10.0.0.1": "veth1", "192.0.2.1": ""}


def test_only_where_a_proxy_listens_is_another_behind_a_port() -> None:
    def port(number: int, *, proxied: bool) -> PublishedPort:
        at = (Address("192.0.2.1"), Address("127.0.0.1"))
        return PublishedPort(Protocol.TCP, number, at, Address("10.0.0.2"), 80, None, proxied=proxied)

    found = names(intent(published=(port(8080, proxied=True), port(8081, proxied=False)))).proxied
    assert found == {
        (6, "192.0.2.1", 8080): Behind(Address("10.0.0.2"), 80),
        (6, "127.0.0.1", 8080): Behind(Address("10.0.0.2"), 80),
    }
