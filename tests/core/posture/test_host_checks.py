"""What counts as a way past our tables and what does not, judged from facts."""

from collections.abc import Iterable

import msgspec
import pytest

from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.marks import MARKS
from stockade.core.fold import fold
from stockade.core.model.finding import Finding, Severity
from stockade.core.model.intent import Intent
from stockade.core.model.inventory import Attachment
from stockade.core.posture.host import (
    CHECKS,
    Act,
    BaseChain,
    BridgeSeen,
    Does,
    Facts,
    FileSeen,
    FileUse,
    ForeignTable,
    LinkPort,
    LocalRoute,
    Program,
    ProgramKind,
    RoutingRule,
    TrafficAct,
    Unread,
    assess,
)
from stockade.testing.inventories import HOST_A
from stockade.testing.worlds import world_events

HOOKS = Unread("hooks are not listed")
CLEAN = Facts(
    tables=(),
    legacy=(),
    unlisted=(),
    traffic=(),
    programs=(),
    rules=(),
    local=(),
    ports=(),
    bridges=(),
    switches=(),
    tracked=(1, 100),
    hooks=HOOKS,
    files=(),
)


def found(intent: Intent | None = None, **parts: object) -> list[tuple[str, str, Severity]]:
    said = assess(msgspec.structs.replace(CLEAN, **parts), intent)
    assert all(each.seen and each.remedy for each in said.findings)
    assert {each.check for each in said.findings} <= set(CHECKS)
    return [(each.check, each.object, each.severity) for each in said.findings]


def table(acts: Iterable[Act], *chains: BaseChain, family: str = "ip") -> tuple[ForeignTable, ...]:
    return (ForeignTable(family, "fw", chains or (BaseChain("c", "filter", "forward", 0),), tuple(acts)),)


def intent() -> Intent:
    """Some host's intent with a bridged endpoint."""
    for seed in range(1, 30):
        compiled = compile_snapshot(fold(world_events(seed))).get(HOST_A)
        if compiled and any(end.attachment is Attachment.BRIDGED and end.port for end in compiled.ends):
            return compiled
    raise AssertionError("no world has a bridged endpoint")


def test_a_clean_host_has_no_findings_and_unlisted_hooks_are_not_clean() -> None:
    said = assess(CLEAN, None)
    assert said.findings == ()
    assert [each.check for each in said.unassessed] == ["hooks"]


@pytest.mark.parametrize("part", [name for name in Facts.__struct_fields__ if name not in ("unlisted", "hooks")])
def test_what_could_not_be_read_is_not_assessed(part: str) -> None:
    said = assess(msgspec.structs.replace(CLEAN, **{part: Unread("not permitted", "be root")}), None)
    assert said.findings == ()
    assert ("not permitted", "be root") in {(each.why, each.remedy) for each in said.unassessed}
    assert {each.check for each in said.unassessed} <= set(CHECKS)


def test_tables_that_nobody_can_read_are_not_assessed() -> None:
    said = assess(msgspec.structs.replace(CLEAN, unlisted=("ebtables-legacy nat",)), None)
    assert ("legacy-tables", "ebtables-legacy nat cannot be read") in {(e.check, e.why) for e in said.unassessed}


@pytest.mark.parametrize(
    ("act", "check"),
    [
        (Act("c", Does.REWRITES), "rewritten-packets"),
        (Act("c", Does.UNTRACKS), "untracked-packets"),
        (Act("c", Does.FORWARDS), "forwarded-frames"),
        (Act("c", Does.COPIES), "forwarded-frames"),
        (Act("c", Does.OFFLOADS), "offloaded-connections"),
        (Act("c", Does.ASKS), "queued-packets"),
        (Act("c", Does.MARKS, packet=MARKS.judged), "mark-bits"),
        (Act("c", Does.MARKS, connection=MARKS.kept), "mark-bits"),
    ],
)
def test_what_a_rule_does(act: Act, check: str) -> None:
    ((said, name, _),) = found(tables=table([act]))
    assert (said, name) == (check, "ip fw c")
    ((said, _, _),) = found(legacy=table([act], family="legacy ip"))
    assert said == check


def test_bits_that_are_nobodys_are_not_ours() -> None:
    assert found(tables=table([Act("c", Does.MARKS, packet=0x4000, connection=0xFFFF)])) == []
    assert found(tables=table([Act("c", Does.MARKS, connection=MARKS.nowhere)])) == []


def test_a_table_without_a_chain_at_a_hook_does_nothing() -> None:
    assert found(tables=(ForeignTable("ip", "fw", (), (Act("c", Does.REWRITES),)),)) == []


@pytest.mark.parametrize(
    ("hook", "priority", "kind", "late"),
    [
        ("prerouting", -100, "nat", False),
        ("prerouting", 50, "nat", False),
        ("output", -100, "nat", False),
        ("output", -6, "nat", False),
        ("output", -5, "nat", True),
        ("output", 0, "nat", True),
        ("output", 0, "filter", False),
        ("postrouting", 100, "nat", False),
    ],
)
def test_translation_counts_where_it_comes_after_the_judgement(hook: str, priority: int, kind: str, late: bool) -> None:
    chain = BaseChain("c", kind, hook, priority)
    assert bool(found(tables=table([Act("c", Does.TRANSLATES, "dnat")], chain))) == late


def test_one_object_is_found_once_by_one_check() -> None:
    acts = [Act("c", Does.FORWARDS, "fwd"), Act("c", Does.COPIES, "dup")]
    said = assess(msgspec.structs.replace(CLEAN, tables=table(acts)), None)
    (finding,) = said.findings
    assert "fwd" in finding.seen
    assert "dup" in finding.seen


def test_traffic_control_counts_by_what_it_does_and_where() -> None:
    known = intent()
    port = next(end.port for end in known.ends if end.attachment is Attachment.BRIDGED and end.port)
    acts = (
        TrafficAct(port, "ingress", "u32", "mirred", "eth9"),
        TrafficAct("eth9", "egress", "bpf", "bpf"),
        TrafficAct("eth9", "ingress", "u32", "mirred", "ifb0"),
        TrafficAct("eth9", "ingress", "u32", "police"),
        TrafficAct("eth9", "ingress", "u32", "gact"),
    )
    assert found(known, traffic=acts) == [
        ("tc-filters", f"{port} ingress", Severity.HIGH),
        ("tc-filters", "eth9 egress", Severity.MEDIUM),
    ]


def test_programs_count_wherever_they_run() -> None:
    known = intent()
    bridge = next(end.bridge for end in known.ends if end.bridge)
    programs = (
        Program(ProgramKind.XDP, 1, "x", bridge),
        Program(ProgramKind.TCX, 2, "t", "eth9"),
        Program(ProgramKind.NETFILTER, 3, "n", detail="at ip forward -200"),
        Program(ProgramKind.SOCKETS, 4, "s"),
    )
    assert sorted(found(known, programs=programs)) == [
        ("bpf-netfilter", "netfilter 3", Severity.MEDIUM),
        ("bpf-sockets", "between sockets 4", Severity.MEDIUM),
        ("tc-filters", "eth9 2", Severity.MEDIUM),
        ("xdp-programs", f"{bridge} 1", Severity.HIGH),
    ]


def test_a_port_on_another_bridge_is_found_until_it_is_judged_there() -> None:
    known = intent()
    end = next(end for end in known.ends if end.attachment is Attachment.BRIDGED and end.port)
    assert found(known, ports=(LinkPort(end.port, end.bridge),)) == []
    assert found(known, ports=()) == []
    for bridge in ("other", ""):
        assert found(known, ports=(LinkPort(end.port, bridge),)) == [("moved-ports", end.port, Severity.MEDIUM)]


def test_bridges_are_found_where_their_frames_are_judged_by_nobody() -> None:
    known = intent()
    name = known.bridges[0].name
    off = (("net/bridge/bridge-nf-call-iptables", 0), ("net/bridge/bridge-nf-call-ip6tables", 1))
    quiet = BridgeSeen(name)
    assert found(known, bridges=(quiet,), switches=off) == [
        ("bridge-settings", f"{name} bridge-nf-call-iptables", Severity.MEDIUM)
    ]
    assert found(known, bridges=(BridgeSeen(name, filters4=True),), switches=off) == []
    assert found(known, bridges=(BridgeSeen("nobodys"),), switches=off) == []
    assert found(known, bridges=(BridgeSeen(name, vlan_filtering=True),)) == [
        ("bridge-settings", f"{name} vlan_filtering", Severity.LOW)
    ]


def test_settings_rules_and_routes() -> None:
    assert found(switches=(("net/ipv4/conf/eth0/route_localnet", 1), ("net/ipv4/conf/all/route_localnet", 0))) == [
        ("loopback-routing", "eth0", Severity.MEDIUM)
    ]
    assert found(rules=(RoutingRule(6, 100, "from all table 5"),)) == [("routing-rules", "IPv6 100", Severity.LOW)]
    assert found(local=(LocalRoute("10.0.0.0/24", 100),)) == [
        ("local-routes", "10.0.0.0/24 table 100", Severity.MEDIUM)
    ]


def test_a_nearly_full_table_is_told_in_steps() -> None:
    assert found(tracked=(79, 100)) == []
    seen = {_tracking(entries).seen for entries in (80, 81, 84)}
    assert len(seen) == 1
    assert _tracking(100).seen != _tracking(80).seen


def _tracking(entries: int) -> Finding:
    (finding,) = assess(msgspec.structs.replace(CLEAN, tracked=(entries, 100)), None).findings
    return finding


@pytest.mark.parametrize(
    ("use", "mode", "trusted", "wrong"),
    [
        (FileUse.PRIVATE, 0o600, True, False),
        (FileUse.PRIVATE, 0o640, True, True),
        (FileUse.PRIVATE, 0o700, True, False),
        (FileUse.PRIVATE, 0o700, False, True),
        (FileUse.CODE, 0o755, True, False),
        (FileUse.CODE, 0o775, True, True),
        (FileUse.CODE, 0o757, True, True),
        (FileUse.CODE, 0o755, False, True),
        (FileUse.MEETING, 0o666, True, False),
        (FileUse.MEETING, 0o666, False, True),
        (FileUse.PARENT, 0o755, True, False),
        (FileUse.PARENT, 0o777, True, True),
        (FileUse.PARENT, 0o1777, True, False),
        (FileUse.PARENT, 0o1777, False, True),
    ],
)
def test_whose_files_and_who_may_change_them(use: FileUse, mode: int, trusted: bool, wrong: bool) -> None:
    assert bool(found(files=(FileSeen("/x", use, mode, "somebody", trusted),))) == wrong


def test_the_same_facts_in_another_order_are_the_same_findings() -> None:
    acts = tuple(TrafficAct(f"v{n}", "ingress", "u32", "mirred", "w") for n in range(5))
    rules = tuple(RoutingRule(4, n, f"table {n}") for n in range(5))
    one = assess(msgspec.structs.replace(CLEAN, traffic=acts, rules=rules), None)
    other = assess(msgspec.structs.replace(CLEAN, traffic=acts[::-1], rules=rules[::-1]), None)
    assert one == other
