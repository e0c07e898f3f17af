"""What users say of flows means what the store is asked, and one flow passes exactly what the store would find."""

import pytest

from stockade.controller.flow_queries import (
    among,
    dimensions,
    end_filter,
    flow_filter,
    flow_view,
    judging_ends,
    meant,
    measure,
    passes,
    said,
    services,
    verdicts,
    vias,
)
from stockade.controller.refused import Refused
from stockade.core.fold import fold
from stockade.core.graph.zoom import port_text
from stockade.core.model.event import PolicyActivated
from stockade.core.model.flow import FlowEnd, FlowKey, StoredFlow, Tally, Verdict, Via
from stockade.core.model.ids import Address, HostId, Prefix, RuleId, Version, WorkloadId
from stockade.core.model.packet import Direction
from stockade.core.model.policy import PolicySet
from stockade.core.model.selector import Equal
from stockade.core.policy import complete
from stockade.seams.flow_store import Dimension, EndFilter, FlowFilter, Measure, Of, ServiceRange

HERE = fold([PolicyActivated(Version(1), complete(PolicySet()))])
KEY = FlowKey(
    Address("10.0.0.1"), Address("198.51.100.7"), 6, 443, Direction.EGRESS, Verdict.DENIED, RuleId("shop/none"),
    via=Via.TRANSLATED, service="192.0.2.1:8443", process="curl (cron.service), wget",
)  # fmt: skip
WEB = FlowEnd(KEY.source, WorkloadId("docker:h:1"), (("app", "shop"), ("name", "web-1"), ("role", "web")))
FLOW = StoredFlow(HostId("host-a"), WEB, FlowEnd(KEY.destination, network="office"), KEY, Tally(1.0, 2.0, 3, 4, 5, 6))


EVIL = "x') OR 1=1 -- \\ {p0:String} \x00 ' \""


@pytest.mark.parametrize("value", ["", "none", "=", "=none", "nginx (web.service)", "a, b", EVIL])
def test_any_program_can_be_asked_for_by_what_means_it(value: str) -> None:
    assert meant(said(value)) == value
    assert among(value) in (value, said(value))
    assert flow_filter(HERE, process=said(value), service=said(value)) == FlowFilter(
        processes=(value,), opened_to=(value,)
    )


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("source", (Direction.EGRESS,)),
        ("ingress", (Direction.INGRESS,)),
        ("source, destination,egress", (Direction.EGRESS, Direction.INGRESS)),
        ("", ()),
    ],
)
def test_ends_and_ways_have_words(text: str, ends: tuple[Direction, ...]) -> None:
    assert judging_ends(text) == ends
    assert vias("proxy, direct") == (Via.PROXY, Via.DIRECT)
    for judge in (judging_ends, vias):
        with pytest.raises(Refused, match="is no"):
            judge("elsewhere")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", EndFilter()),
        ("known", EndFilter(known=True)),
        ("unknown", EndFilter(known=False)),
        ("network:office", EndFilter(networks=("office",))),
        ("dns:API.example.com.", EndFilter(told=("api.example.com",))),
        ("10.0.0.1", EndFilter(prefixes=(Prefix("10.0.0.1/32"),))),
        ("10.0.0.9/8", EndFilter(prefixes=(Prefix("10.0.0.0/8"),))),
        ("fd00::1", EndFilter(prefixes=(Prefix("fd00::1/128"),))),
        ("docker:h:1", EndFilter(workloads=(WorkloadId("docker:h:1"),))),
        ("web-1", EndFilter(selector=Equal("name", "web-1"))),
        ("role = web", EndFilter(selector=Equal("role", "web"))),
    ],
)
def test_an_end_is_what_its_text_says(text: str, meant: EndFilter) -> None:
    assert end_filter(text, HERE) == meant


@pytest.mark.parametrize("text", ["role ==", "(", "role = web and", "a b"])
def test_what_says_nothing_of_an_end_is_refused_with_what_would(text: str) -> None:
    with pytest.raises(Refused) as refused:
        end_filter(text, HERE)
    assert text in refused.value.message
    assert "network:NAME" in refused.value.remedy


def test_ports_are_written_as_in_policy_or_named() -> None:
    assert services("tcp/443, udp/53-54", HERE) == (ServiceRange(6, 443, 443), ServiceRange(17, 53, 54))
    assert services("any", HERE) == (ServiceRange(None, 0, 65535),)
    assert services("dns", HERE) == (ServiceRange(6, 53, 53), ServiceRange(17, 53, 53))
    with pytest.raises(Refused, match="tcp/443"):
        services("443", HERE)


def test_words_are_from_closed_lists() -> None:
    assert verdicts("denied, would-be-denied") == (Verdict.DENIED, Verdict.WOULD_DENY)
    assert measure("bytes-out") is Measure.BYTES_OUT
    assert dimensions("source.app,port") == (Dimension(Of.SOURCE_LABEL, "app"), Dimension(Of.PORT))
    for wrong in (lambda: verdicts("refused"), lambda: measure("colour"), lambda: dimensions("colour")):
        with pytest.raises(Refused, match=r"refused|colour"):
            wrong()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, True),
        ({"source": "role = web and app = shop"}, True),
        ({"source": "role = api"}, False),
        ({"source": "role != api"}, True),
        ({"source": "web-1"}, True),
        ({"source": "all"}, True),
        ({"destination": "all"}, False),
        ({"destination": "role != api"}, False),  # a selector matches nobody unknown
        ({"destination": "unknown"}, True),
        ({"destination": "network:office"}, True),
        ({"destination": "network:lab"}, False),
        ({"destination": "198.51.100.0/24"}, True),
        ({"source": "docker:h:2"}, False),
        ({"on": "tcp/400-500"}, True),
        ({"on": "udp/443,icmp"}, False),
        ({"on": "any"}, True),
        ({"verdict": "denied"}, True),
        ({"verdict": "allowed"}, False),
        ({"rule": "shop/none"}, True),
        ({"rule": "default"}, False),
        ({"host": "host-b"}, False),
        ({"end": "source"}, True),
        ({"end": "destination"}, False),
        ({"via": "direct,translated"}, True),
        ({"via": "proxy"}, False),
        ({"service": "192.0.2.1:8443"}, True),
        ({"service": "=192.0.2.1:8443"}, True),
        ({"service": "none"}, False),
        ({"process": "curl (cron.service)"}, True),
        ({"process": "wget"}, True),
        ({"process": "curl"}, False),
        ({"process": "=wget"}, False),
        ({"process": "=curl (cron.service), wget"}, True),
        ({"process": "none"}, False),
    ],
)
def test_one_flow_passes_what_asks_for_it(asked: dict[str, str], found: bool) -> None:
    assert passes(FLOW, flow_filter(HERE, **asked)) is found


def test_a_flow_is_shown_by_names_and_as_policy_writes_ports() -> None:
    view = flow_view(FLOW)
    assert (view.source.name, view.destination.name, view.on) == ("web-1", "198.51.100.7", "tcp/443")
    assert view.source.labels == (("app", "shop"), ("role", "web"))
    assert (view.connections, view.packets, view.bytes_out, view.bytes_in) == (3, 4, 5, 6)


@pytest.mark.parametrize(
    ("protocol", "port", "text"),
    [(17, 53, "udp/53"), (1, 2048, "icmp/8/0"), (47, 0, "protocol 47"), (0, 0, "protocol 0"), (132, 9, "sctp/9")],
)
def test_protocols_have_the_words_of_policy_or_their_numbers(protocol: int, port: int, text: str) -> None:
    assert port_text(protocol, port) == text
