"""doctor: each check, each way in which it can come out."""

from pathlib import Path

import msgspec
import pytest

from stockade.cli.machine_checks import checks, worst
from stockade.cli.machine_facts import (
    EngineSocket,
    Facts,
    ForeignChain,
    MarkWrite,
    Podman,
    Rules,
    collect,
    read_rules,
)
from stockade.core.posture.host import FileSeen, FileUse
from stockade.wire.api import Judged

BRIDGE_NF = (("bridge-nf-call-iptables", 1), ("bridge-nf-call-ip6tables", 1))
SOUND = Facts(
    kernel="6.9.1",
    nft="1.0.6",
    libnftables=True,
    userns_error="",
    nft_error="",
    log_error="",
    bridge_conntrack=True,
    bridge_nf=BRIDGE_NF,
    tracked=10,
    tracked_limit=262144,
    rules=Rules(),
    hooks_listed=True,
    podman=Podman(there=True, used=True, events="journald"),
    docker=EngineSocket("unix:///d.sock", there=True),
    containerd=EngineSocket("unix:///c.sock", there=True),
    state="/var/lib/stockade",
    files=(FileSeen("/var/lib/stockade", FileUse.PRIVATE, 0o700, "root"),),
)


def judged(name: str, **changes: object) -> Judged:
    facts = msgspec.structs.replace(SOUND, **changes)
    check = next(check for check in checks(facts) if check.name == name)
    assert check.judged is Judged.GOOD or check.remedy
    return check.judged


def test_a_sound_machine_is_sound() -> None:
    assert worst(checks(SOUND)) is Judged.GOOD


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("kernel", {"kernel": "4.19.0-amd64"}, Judged.PROBLEM),
        ("permission", {"net_admin": False}, Judged.WARNING),
        ("nftables", {"nft": None}, Judged.PROBLEM),
        ("nftables", {"libnftables": False}, Judged.PROBLEM),
        ("nftables", {"nft_error": "Operation not supported"}, Judged.PROBLEM),
        ("nftables", {"nft_error": None}, Judged.NOT_ASSESSED),
        ("flows", {"log_error": "No such file or directory"}, Judged.PROBLEM),
        ("flows", {"log_error": None}, Judged.NOT_ASSESSED),
        ("flows", {"nft_error": "Operation not supported", "log_error": "the same"}, Judged.NOT_ASSESSED),
        ("iproute2", {"ip": False}, Judged.PROBLEM),
        ("user namespaces", {"userns_error": "Operation not permitted"}, Judged.WARNING),
        ("user namespaces", {"userns_error": None}, Judged.NOT_ASSESSED),
        ("table ownership", {"kernel": "6.1.0-13-amd64"}, Judged.WARNING),
        ("connection tracking", {"tracked": 209_716}, Judged.PROBLEM),
        ("connection tracking", {"tracked_limit": 8192}, Judged.WARNING),
        ("connection tracking", {"tracked": None}, Judged.NOT_ASSESSED),
        ("bridged traffic", {"bridge_nf": ()}, Judged.GOOD),
        ("bridged traffic", {"bridge_nf": (), "bridge_conntrack": False}, Judged.WARNING),
        ("bridged traffic", {"bridge_nf": (), "bridge_conntrack": None}, Judged.NOT_ASSESSED),
        ("bridged traffic", {"bridge_nf": (("a", 1), ("b", 0))}, Judged.WARNING),
        ("mark bits", {"rules": None}, Judged.NOT_ASSESSED),
        ("mark bits", {"rules": Rules(marks=(MarkWrite("ip fw", "meta", 0xFFFFFFFF),))}, Judged.PROBLEM),
        ("mark bits", {"rules": Rules(marks=(MarkWrite("ip fw", "meta", 0x4000),))}, Judged.GOOD),
        ("mark bits", {"rules": Rules(marks=(MarkWrite("ip mangle", "meta"),))}, Judged.NOT_ASSESSED),
        (
            "other tables",
            {"rules": Rules(chains=(ForeignChain("ip", "filter", "FORWARD", "forward", 0, True),))},
            Judged.WARNING,
        ),
        ("other tables", {"rules": None}, Judged.NOT_ASSESSED),
        ("hooks", {"hooks_listed": False}, Judged.NOT_ASSESSED),
        ("podman", {"podman": None}, Judged.NOT_ASSESSED),
        ("podman", {"podman": Podman()}, Judged.GOOD),
        ("podman", {"podman": Podman(there=True)}, Judged.GOOD),
        ("podman", {"podman": Podman(True, True, "none")}, Judged.PROBLEM),
        ("podman", {"podman": Podman(True, True, "file", (1000,))}, Judged.WARNING),
        ("podman", {"podman": Podman(True, True, error="permission denied")}, Judged.NOT_ASSESSED),
        ("docker", {"docker": EngineSocket("unix:///d.sock")}, Judged.GOOD),
        ("docker", {"docker": EngineSocket("unix:///d.sock", True, "Permission denied")}, Judged.PROBLEM),
        ("containerd", {"containerd": EngineSocket("unix:///c.sock")}, Judged.GOOD),
        ("containerd", {"containerd": EngineSocket("unix:///c.sock", True, "Permission denied")}, Judged.PROBLEM),
        ("containerd", {"containerd": None}, Judged.NOT_ASSESSED),
        ("own files", {"files": None}, Judged.NOT_ASSESSED),
        ("own files", {"files": (FileSeen("/x", FileUse.CODE, 0o777, "root"),)}, Judged.PROBLEM),
        ("own files", {"files": (FileSeen("/x", FileUse.CODE, 0o755, "ada", trusted=False),)}, Judged.PROBLEM),
        ("state folder", {"state_error": "/var/lib is not writable"}, Judged.PROBLEM),
    ],
)
def test_each_way_it_can_come_out(name: str, changes: dict[str, object], expected: Judged) -> None:
    assert judged(name, **changes) is expected


def test_the_rules_of_others_are_read() -> None:
    mark = {"meta": {"key": "mark"}}
    rule = {"family": "ip", "table": "fw", "chain": "base", "expr": []}
    document = {
        "nftables": [
            {"metainfo": {}},
            {"table": {"family": "inet", "name": "stockade"}},
            {"chain": {"family": "inet", "table": "stockade", "name": "f", "hook": "forward", "prio": 0}},
            {
                "chain": {
                    "family": "ip",
                    "table": "fw",
                    "name": "base",
                    "hook": "forward",
                    "prio": -10,
                    "policy": "accept",
                }
            },
            {"chain": {"family": "ip", "table": "fw", "name": "regular"}},
            {"rule": {**rule, "expr": [{"drop": None}]}},
            {"rule": {**rule, "expr": [{"mangle": {"key": mark, "value": {"|": [mark, 0x400]}}}]}},
            {"rule": {**rule, "expr": [{"mangle": {"key": mark, "value": {"|": [{"&": [mark, 0xFFFFFFF0]}, 1]}}}]}},
            {"rule": {**rule, "expr": [{"mangle": {"key": {"ct": {"key": "mark"}}, "value": 1}}]}},
            {"rule": {**rule, "expr": [{"xt": {"type": "target", "name": "MARK"}}]}},
        ]
    }
    found = read_rules(document)
    assert found.ours == ("inet stockade",)
    assert found.chains == (ForeignChain("ip", "fw", "base", "forward", -10, drops=True),)
    assert found.marks == (
        MarkWrite("ip fw", "ct", 0xFFFFFFFF),
        MarkWrite("ip fw", "meta"),
        MarkWrite("ip fw", "meta", 0xF),
        MarkWrite("ip fw", "meta", 0x400),
    )


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    facts = collect("tcp://192.0.2.1:2375", tmp_path, tmp_path / "api.sock")
    assert facts.kernel
    assert facts.docker is not None
    assert facts.docker.error
    assert len(checks(facts)) == len(checks(SOUND))
