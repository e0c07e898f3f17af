"""Every verb against a server made of the route table: what is asked, what is shown, how it ends."""

import json
from pathlib import Path

import cli_samples as samples
import msgspec
import pytest
import yaml
from route_table_server import CommandLine, Server

from stockade.core.model.finding import Severity
from stockade.core.model.ids import Address, CheckId, FindingId, HostId, Revision, RuleId, Version, WorkloadId
from stockade.core.model.inventory import WorkloadKind, WorkloadState
from stockade.core.model.labels import Label, LabelSource
from stockade.core.model.policy import Births, Expectation, Mode, Where
from stockade.core.model.problem import Problem
from stockade.core.model.snapshot import Contest
from stockade.core.plan.values import Explanation, Plan, Reach, Reachable, TestResult
from stockade.wire.anomalies import Evidence, EvidenceFlow
from stockade.wire.api import (
    AcceptedFinding,
    AcceptedReply,
    AcceptRequest,
    ApplyRequest,
    AuditEntry,
    AuditReply,
    BirthsReply,
    BirthView,
    Check,
    ConfirmRequest,
    DoctorReply,
    ErrorReply,
    ExplainReply,
    FindingsReply,
    Gone,
    HistoryReply,
    HostFinding,
    HostUnassessed,
    InSync,
    Judged,
    LabelsReply,
    LabelsRequest,
    LabelUse,
    ModeRequest,
    Pending,
    PlanReply,
    PlanRequest,
    ReachReply,
    ReopenRequest,
    RollbackRequest,
    RulesReply,
    RuleText,
    RuntimeBirths,
    Seen,
    VersionReply,
    WorkloadReply,
    WorkloadsReply,
    WorkloadView,
)
from stockade.wire.flows import FlowsReply


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "shop.yaml").write_text("kind: Policy\n", encoding="utf-8")
    (folder / "notes.txt").write_text("no policy", encoding="utf-8")
    (folder / ".hidden.yaml").write_text("not meant", encoding="utf-8")
    return folder


def test_status_shows_version_hosts_and_settings_with_origin(server: Server, cli: CommandLine) -> None:
    server.answers["status"] = samples.STATUS
    ran = cli("status")
    assert ran.code == 0
    assert ran.lines[0] == 'Version 8 "shop" by ada, 2023-11-14 22:13:20 UTC'
    assert "Workloads  3, 1 unknown: 2 full, 1 visibility" in ran.lines
    assert "host-a  version 8  3          hold    10 of 100" in ran.out
    assert "variable STOCKADE_STATE (this command)" in ran.out


def test_status_ends_in_2_where_something_waits(server: Server, cli: CommandLine) -> None:
    pending = Pending(Version(8), Version(7), samples.MOMENT)
    server.answers["status"] = samples.STATUS.__class__(
        **{name: getattr(samples.STATUS, name) for name in samples.STATUS.__struct_fields__ if name != "pending"},
        pending=pending,
    )
    ran = cli("status")
    assert ran.code == 2
    assert "version 8 waits to be confirmed; version 7 returns at 2023-11-14 22:13:20 UTC" in ran.out


def test_status_names_addresses_of_documents_that_are_somebody_elses(server: Server, cli: CommandLine) -> None:
    holder, where = WorkloadId("docker:host-a:web-1"), Where("policies/boxes.yaml", 4, 1)
    contest = Contest(WorkloadId("workload:till"), Address("192.0.2.10"), holder, None, where)
    server.answers["status"] = msgspec.structs.replace(samples.STATUS, contests=(contest,))
    ran = cli("status")
    assert ran.code == 2
    assert "boxes.yaml:4  workload:till: 192.0.2.10 is docker:host-a:web-1's" in ran.out


def test_workloads_say_where_a_declared_one_was_written(server: Server, cli: CommandLine) -> None:
    label = Label("role", "till", LabelSource.OPERATOR, "boxes.yaml:4")
    view = WorkloadView(
        id=WorkloadId("workload:till"),
        name="till",
        kind=WorkloadKind.UNMANAGED,
        state=WorkloadState.RUNNING,
        addresses=(Address("192.0.2.10"),),
        labels=(label, Label("env", "prod", LabelSource.OPERATOR, "ann")),
        written=Where("boxes.yaml", 4, 1),
    )
    server.answers["workloads"] = WorkloadsReply(revision=Revision(1), workloads=(view,))
    ran = cli("workloads", "--long")
    assert "role=till  from its document, boxes.yaml:4" in ran.out
    assert "env=prod  from ann, an operator" in ran.out
    assert "boxes.yaml:4" in ran.lines[2]


def test_json_is_the_apis_own_object(server: Server, cli: CommandLine) -> None:
    server.answers["history"] = HistoryReply(versions=(samples.VERSION,))
    it = json.loads(cli("history", "-o", "json").out)
    assert it["schema"] == 1
    assert it["versions"][0]["number"] == 8
    assert yaml.safe_load(cli("history", "-o", "yaml").out) == it


def test_workloads(server: Server, cli: CommandLine) -> None:
    server.answers["workloads"] = WorkloadsReply(revision=Revision(3), workloads=(samples.STRANGER, samples.WEB))
    ran = cli("workloads", "--select", "role = web")
    assert server.of("workloads")[1] == {"select": "role = web"}
    assert any(row.startswith("?  stranger") for row in ran.lines)
    assert "role=web" in ran.out
    assert "role=web  from the runtime, by rule compose" in cli("workloads", "--long").out


def test_watch_shows_each_change_and_marks_the_listing_end(server: Server, cli: CommandLine) -> None:
    server.lines = [
        Seen(Revision(3), samples.WEB),
        InSync(Revision(3)),
        Gone(Revision(4), samples.WEB.id, "web-2"),
    ]
    ran = cli("workloads", "--watch")
    assert [row[:7] for row in ran.lines] == ["+ web-2", "- web-2"]
    assert "in sync at revision 3" in ran.err
    kinds = [json.loads(row)["type"] for row in cli("workloads", "--watch", "-o", "json").lines]
    assert kinds == ["seen", "in-sync", "gone"]


def test_labels_are_listed_and_set(server: Server, cli: CommandLine) -> None:
    server.answers["labels"] = LabelsReply(labels=(LabelUse("role", "web", LabelSource.RUNTIME, 3),))
    server.answers["set-labels"] = WorkloadReply(revision=Revision(4), workload=samples.WEB)
    assert "role=web  runtime  3" in cli("labels").out
    cli("labels", "set", "web 2", "role=web", "env=")
    assert server.of("set-labels") == (LabelsRequest(labels={"role": "web", "env": ""}), {"workload": "web 2"})
    assert cli("labels", "set", "web-2", "role").code == 1


def test_plan_sends_policy_files_alone_and_shows_what_would_change(
    server: Server, cli: CommandLine, draft: Path
) -> None:
    server.answers["plan"] = PlanReply(plan=samples.PLAN)
    ran = cli("plan", "policies")
    body = server.of("plan")[0]
    assert isinstance(body, PlanRequest)
    assert [file.name for file in body.files] == ["policies/shop.yaml"]
    assert ran.code == 2
    assert ran.lines[0] == "Draft against version 7. 0 rules changed, 1 added, 1 removed."
    at = ran.lines.index("Connections")
    assert ran.lines[at + 1 : at + 6] == [
        "  +  role=api → role=cache  tcp/6379  2 → 1 workloads",
        "      shop.yaml:14  shop/api-to-cache",
        "  -  role=web → role=db     tcp/5432  4 → 1 workloads",
        "      was shop.yaml:9  shop/web-to-db",
        "      2 live connections end",
    ]
    assert "2 live connections end" in ran.out
    assert "web-1 → db-0" in ran.out
    assert "Points       1 of 41 change: 2 chains, 5 set elements" in ran.lines
    assert "Tests        1 passed" in ran.lines
    assert "Invariants   1 hold" in ran.lines
    assert "shop.yaml:21  shop/monitoring: matches no workload" in ran.out
    assert ran.lines[-1] == 'Apply it:  stockade apply policies --note "why"'


def test_a_draft_that_does_not_parse_shows_the_mistake_underlined(
    server: Server, cli: CommandLine, draft: Path
) -> None:
    problem = Problem(
        Where("policies/shop.yaml", 9, 18),
        'unknown service "postgress"',
        "",
        "postgres",
        "    allow: {on: [postgress]}",
        9,
    )
    server.answers["plan"] = PlanReply(plan=Plan(against=Version(7), problems=(problem,)))
    ran = cli("plan", "policies")
    assert ran.code == 1
    assert ran.lines == [
        'policies/shop.yaml:9:18: unknown service "postgress"; did you mean "postgres"?',
        "    9 │     allow: {on: [postgress]}",
        "      │                  ^^^^^^^^^",
        "1 problem. Version 7 stays in force.",
    ]


def test_apply_shows_the_plan_and_applies_what_was_seen(server: Server, cli: CommandLine, draft: Path) -> None:
    server.answers["plan"] = PlanReply(plan=samples.PLAN)
    server.answers["apply"] = samples.APPLIED
    ran = cli("apply", "policies", "--yes", "--note", "why", "--confirm", "2m")
    body = server.of("apply")[0]
    assert isinstance(body, ApplyRequest)
    assert (body.note, body.expect, body.yes, body.confirm, body.wait) == ("why", "b1946ac9", False, 120.0, 5.0)
    assert ran.code == 0
    assert ran.out.index("Draft against version 7") < ran.out.index("Version 8")


def test_apply_without_a_terminal_needs_yes(server: Server, cli: CommandLine, draft: Path) -> None:
    server.answers["plan"] = PlanReply(plan=samples.PLAN)
    ran = cli("apply", "policies")
    assert ran.code == 1
    assert "version 7 stays in force" in ran.err
    assert not [asked for asked in server.asked if asked[0] == "apply"]


def test_apply_refuses_a_draft_whose_test_fails(server: Server, cli: CommandLine, draft: Path) -> None:
    failing = TestResult("shop", Where("shop.yaml", 30), "web → db", Expectation.DENY, passed=False, because="allowed")
    server.answers["plan"] = PlanReply(plan=Plan(against=Version(7), id="x", tests=(failing,)))
    ran = cli("apply", "policies", "--yes")
    assert ran.code == 1
    assert "shop.yaml:30: test failed: web → db: allowed" in ran.err
    assert not [asked for asked in server.asked if asked[0] == "apply"]


def test_with_json_stdout_holds_the_new_version_alone(server: Server, cli: CommandLine, draft: Path) -> None:
    server.answers["plan"] = PlanReply(plan=samples.PLAN)
    server.answers["apply"] = samples.APPLIED
    ran = cli("apply", "policies", "--yes", "-o", "json")
    assert json.loads(ran.out)["version"]["number"] == 8
    assert "Draft against version 7" in ran.err


def test_a_version_that_waits_ends_in_2(server: Server, cli: CommandLine) -> None:
    pending = Pending(Version(8), Version(7), samples.MOMENT)
    server.answers["rollback"] = VersionReply(version=samples.VERSION, pending=pending, waiting=(HostId("host-b"),))
    ran = cli("rollback", "3", "--confirm", "60s")
    assert server.of("rollback")[0] == RollbackRequest(version=Version(3), confirm=60.0)
    assert ran.code == 2
    assert "not yet in force on host-b" in ran.out
    assert "stockade confirm" in ran.out


def test_confirm_mode(server: Server, cli: CommandLine) -> None:
    server.answers["confirm"] = server.answers["mode"] = samples.APPLIED
    assert cli("confirm", "8").code == 0
    assert server.of("confirm")[0] == ConfirmRequest(version=Version(8))
    assert cli("mode", "app = shop", "full", "--births", "hold").code == 0
    assert server.of("mode")[0] == ModeRequest(select="app = shop", mode=Mode.FULL, births=Births.HOLD)
    assert cli("mode", "all", "strict").code == 1


def test_explain_says_the_result_first(server: Server, cli: CommandLine) -> None:
    realised = ((HostId("host-a"), Version(8)),)
    server.answers["explain"] = ExplainReply(explanation=samples.DENIED, realised=realised)
    ran = cli("explain", "web-2", "db-0", "tcp/5432")
    assert server.of("explain")[1] == {"source": "web-2", "destination": "db-0", "on": "tcp/5432"}
    assert ran.code == 2
    assert ran.lines == [
        "✕ DENIED at host-a, on arrival at db-0    version 8, in force on host-a",
        "",
        "  leaves  web-2 (172.17.0.2)  host-a  allowed  mode visibility judges nothing",
        "  enters  db-0                host-a  denied",
        "      no rule allows it; mode full denies (modes.yaml:4)",
        "  nearest   shop.yaml:9  shop/api-to-db  role=api → role=db tcp/5432 (lacks: source)",
        "",
        '  because  web-2  has role=web  from Compose service "web" (docker on host-a)',
        "           db-0   has role=db   from the runtime, by rule compose",
        "",
        '  to allow  shop.yaml:9  shop/api-to-db  from: "role in (api, web)"',
        "            would also open  web-1 → db-0, web-3 → db-0, web-4 → db-0 and 5 more",
    ]


def test_explain_of_what_nobody_judges_is_not_assessed(server: Server, cli: CommandLine) -> None:
    it = Explanation(samples.DENIED.source, samples.DENIED.destination, "icmp", allowed=True, version=Version(8))
    server.answers["explain"] = ExplainReply(explanation=it)
    ran = cli("explain", "192.0.2.1", "192.0.2.2", "icmp")
    assert ran.code == 3
    assert "NOT JUDGED" in ran.lines[0]


def test_reach_rules_births_log(server: Server, cli: CommandLine) -> None:
    inbound = (Reachable("role=api", "tcp/5432", 2, RuleId("shop/api-to-db"), Where("shop.yaml", 9)),)
    server.answers["reach"] = ReachReply(reach=Reach("db-0", ("db-0",), Version(8), inbound))
    ran = cli("reach", "db-0")
    assert "  role=api  tcp/5432  2 workloads  shop.yaml:9  shop/api-to-db" in ran.lines
    assert ran.lines[-2:] == ["May reach", "  nothing"]
    declared = Reach("till", ("till",), Version(8), written=(("till", Where("boxes.yaml", 4, 1)),))
    server.answers["reach"] = ReachReply(reach=declared)
    assert "  till  from its document, boxes.yaml:4; no agent judges there, its peers do" in cli("reach", "till").lines

    rule = RuleText("inet", "in_ab12", "tcp dport 5432 accept", RuleId("shop/api-to-db"), Where("shop.yaml", 9, 7), 12)
    server.answers["rules"] = RulesReply(
        host=HostId("host-a"), version=Version(8), revision=Revision(3), text="table inet stockade {}\n", rules=(rule,)
    )
    assert "shop.yaml:9:7  shop/api-to-db  12 packets" in cli("rules").out
    assert cli("rules", "host-a", "--text").out == "table inet stockade {}\n"

    birth = BirthView(
        WorkloadId("docker:host-a:w"), "web-5", HostId("host-a"), 10.0, 10.003, 10.0, 10.009, leak=0.0, dead=0.009
    )
    docker = RuntimeBirths("docker", 12, 0, 1, 0.001, 0.004, 0.009, 0.05)
    server.answers["births"] = BirthsReply(births=(birth,), runtimes=(docker,))
    ran = cli("births", "--last", "3")
    assert ran.code == 0
    assert ran.lines[-1] == "docker   12      0       1        1 ms         4 ms  9 ms      50 ms"
    cli("births", "--slowest")
    assert server.of("births")[1] == {"slowest": "1"}
    assert "web-5     host-a  +3 ms    +0 µs     +9 ms    none  9 ms  none" in ran.out

    entry = AuditEntry(1, samples.MOMENT, "ada", 1000, "apply", "version 8", "done")
    server.answers["audit"] = AuditReply(entries=(entry,))
    assert "ada  apply   version 8  done" in cli("log").out


def test_births_are_followed_as_they_come(server: Server, cli: CommandLine) -> None:
    born = BirthView(WorkloadId("w"), "web-5", HostId("host-a"), 10.0, 10.003, 10.0)
    done = msgspec.structs.replace(born, allowed=10.009, leak=0.0, dead=0.009)
    server.lines = [born, done]
    ran = cli("births", "--watch")
    assert ran.lines[0].startswith("web-5  host-a  noticed +3 ms  isolated +0 µs  allowed –")
    assert "allowed +9 ms  leak none  dead 9 ms" in ran.lines[1]
    assert [json.loads(each)["allowed"] for each in cli("births", "--watch", "-o", "json").lines] == [None, 10.009]


def test_a_leak_ends_in_2(server: Server, cli: CommandLine) -> None:
    birth = BirthView(WorkloadId("w"), "web-5", HostId("host-a"), 10.0, leak=0.5)
    server.answers["births"] = BirthsReply(births=(birth,))
    assert cli("births").code == 2


FINDING = HostFinding(
    samples.HOST,
    CheckId("tc-filters"),
    "veth1 ingress",
    Severity.HIGH,
    "mirred to eth0",
    "tc filter show dev veth1",
    samples.MOMENT,
)
OF_TRAFFIC = HostFinding(
    HostId("*"),
    CheckId("beacon"),
    "docker:host-a:web-1",
    Severity.MEDIUM,
    "web-1 met 198.51.100.7 tcp/443 20 times, every 60.0 s",
    "find out whose it is",
    samples.MOMENT,
    Evidence(
        samples.MOMENT,
        samples.MOMENT + 1200,
        (("intervals", 19), ("median seconds", 60.0)),
        (EvidenceFlow("docker:host-a:web-1", "web-1", "198.51.100.7", "198.51.100.7", "tcp/443", 20, 0, 1.0, 2.0),),
        7,
    ),
)
UNASSESSED = HostUnassessed(samples.HOST, CheckId("hooks"), "they are not listed", "nft list hooks")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (FindingsReply(), 0),
        (FindingsReply(unassessed=(UNASSESSED,)), 3),
        (FindingsReply(findings=(FINDING,), unassessed=(UNASSESSED,)), 2),
        (FindingsReply(findings=(FINDING, OF_TRAFFIC)), 2),
    ],
)
def test_findings_say_what_was_seen_and_what_to_do(
    server: Server, cli: CommandLine, reply: FindingsReply, code: int
) -> None:
    server.answers["findings"] = reply
    ran = cli("findings", "host-a")
    assert ran.code == code
    assert server.of("findings")[1] == {"host": "host-a"}
    for each in reply.findings:
        assert all(part in ran.out for part in (each.check, each.object, each.seen, each.remedy, each.severity.value))
    for unknown in reply.unassessed:
        assert "Not assessed" in ran.out
        assert unknown.why in ran.out
    assert ("No findings." in ran.out) == (not reply.findings)


def test_a_finding_of_traffic_shows_what_shows_it(server: Server, cli: CommandLine) -> None:
    checks = [
        HostUnassessed(HostId("*"), CheckId(each), "no flows are kept", "keep them") for each in ("scan", "fan-out")
    ]
    server.answers["findings"] = FindingsReply(findings=(OF_TRAFFIC,), unassessed=tuple(checks))
    ran = cli("findings")
    assert "traffic, since" in ran.out
    assert "intervals 19" in ran.out
    assert "● web-1 → 198.51.100.7 tcp/443  20 connections" in ran.out
    assert "stockade flows --from docker:host-a:web-1 --to 198.51.100.7 --on tcp/443 --since" in ran.out
    assert "scan, fan-out  traffic" in ran.out
    assert ran.out.count("no flows are kept") == 1


def test_flows_are_asked_for_by_program_end_way_and_service(server: Server, cli: CommandLine) -> None:
    server.answers["flows"] = FlowsReply(flows=())
    hostile = "x' OR 1=1; --"
    ran = cli("flows", "--process", hostile, "--end", "source", "--via", "translated,proxy", "--service", "none")
    assert ran.code == 0
    given = server.of("flows")[1]
    asked = {"process": hostile, "end": "source", "via": "translated,proxy", "service": "none"}
    assert given.items() >= asked.items()


GIVEN = AcceptedFinding(
    FindingId("0123456789ab"), HostId("host-a"), FINDING.check, FINDING.object, FINDING.severity, "ada", 1.7e9,
    "the VPN's", 1.8e9, FINDING,
)  # fmt: skip


def test_what_is_accepted_is_counted_and_listed_and_is_no_reason_to_look(server: Server, cli: CommandLine) -> None:
    server.answers["findings"] = FindingsReply(accepted=(GIVEN, msgspec.structs.replace(GIVEN, finding=None)))
    ran = cli("findings")
    assert ran.code == 0
    assert "1 accepted: stockade findings --accepted" in ran.out
    listed = cli("findings", "--accepted").out
    assert "accepted by ada on 2023-11-14 22:13:20 UTC, until 2027-01-15 08:00:00 UTC: the VPN's" in listed
    assert listed.count("not found just now") == 1


def test_a_finding_is_accepted_and_reopened(server: Server, cli: CommandLine) -> None:
    server.answers["accept-finding"] = server.answers["reopen-finding"] = AcceptedReply(accepted=GIVEN)
    ran = cli("findings", "--accept", GIVEN.id, "--why", "the VPN's", "--until", "2027-01-15T08:00")
    assert ran.code == 0
    assert f"stockade findings --reopen {GIVEN.id}" in ran.out
    assert server.of("accept-finding")[0] == AcceptRequest(id=GIVEN.id, why="the VPN's", until=1.8e9)
    assert cli("findings", "--reopen", GIVEN.id, "--why", "gone").code == 0
    assert server.of("reopen-finding")[0] == ReopenRequest(id=GIVEN.id, why="gone")


@pytest.mark.parametrize(
    "words",
    [
        ("--why", "x"),
        ("--until", "30d"),
        ("--accept", "a", "--reopen", "b"),
        ("--reopen", "a", "--until", "30d"),
        ("--accept", "a", "--why", "x", "--until", "soon"),
    ],
)
def test_what_says_nothing_of_a_finding_is_refused(server: Server, cli: CommandLine, words: tuple[str, ...]) -> None:
    ran = cli("findings", *words)
    assert ran.code == 1
    assert ran.out == ""
    assert server.asked == []


def test_status_counts_findings_and_is_no_longer_all_well(server: Server, cli: CommandLine) -> None:
    server.answers["status"] = msgspec.structs.replace(samples.STATUS, findings=((Severity.HIGH, 2),), unassessed=1)
    ran = cli("status")
    assert ran.code == 2
    assert "2 high, 1 not assessed:  stockade findings" in ran.out


def test_doctor_adds_the_servers_checks(server: Server, cli: CommandLine) -> None:
    server.answers["doctor"] = DoctorReply(
        checks=(Check("store", Judged.PROBLEM, "the disk is full", "free some"), Check("kernel", Judged.GOOD, "seen"))
    )
    ran = cli("doctor")
    assert ran.code == 2
    assert "do: free some" in ran.out
    assert [row.split()[-1] for row in ran.lines if row[2:].startswith("kernel")] == ["seen"]


def test_what_the_server_refuses_is_three_lines(server: Server, cli: CommandLine) -> None:
    server.answers["rollback"] = ErrorReply(
        error="there is no version 99", kept="version 8 stays in force", remedy="stockade history lists them"
    )
    ran = cli("rollback", "99")
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.splitlines() == [
        "error  there is no version 99",
        "kept   version 8 stays in force",
        "next   stockade history lists them",
    ]
