"""What stands around our tables in a real namespace is seen, judged, and gone again when it is undone.

And what engines and firewalls ordinarily put there is no finding.
"""

import os
import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bpf_programs
import pytest
from nft_rooms import Room, bare_room

from stockade.adapters import own_files
from stockade.adapters.netlink import Namespace
from stockade.adapters.xtables import unlisted_tables
from stockade.cli.inspection import HostInspection
from stockade.core.model.finding import Assessment
from stockade.core.posture.host import Facts, Unread, assess
from stockade.testing.lab.entry import entered

pytestmark = pytest.mark.real


class Place:
    """A namespace with a bridge and two links, and whoever inspects it."""

    def __init__(self, space: Room, folder: Path) -> None:
        self.space = space
        self.namespace = Namespace.at(space.netns)
        self.inspection = HostInspection(folder, folder / "api.sock", self.namespace)
        for each in (
            "link add v0 type veth peer name v1",
            "link add br0 type bridge",
            "link set v0 master br0",
            "address add 10.9.0.1/24 dev br0",
            *(f"link set {name} up" for name in ("v0", "v1", "br0")),
        ):
            self.does("ip", *each.split())

    def does(self, *words: str) -> None:
        done = self.space.run(*words)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"

    def tries(self, *words: str, lacks: str) -> None:
        """Do it, or skip with what this kernel lacks."""
        if self.space.run(*words).returncode:
            pytest.skip(f"this kernel has no {lacks}")

    def rules(self, text: str) -> None:
        words = ["nsenter", f"--net={self.space.netns}", "nft", "-f", "-"]
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

    def looks(self) -> Facts:
        return self.inspection.look()

    def judged(self) -> Assessment:
        return assess(self.looks(), None)

    def found(self) -> set[tuple[str, str]]:
        """What is found besides files, which are the machine's, and programs of others in other namespaces."""
        elsewhere = ("file-modes", "bpf-netfilter", "bpf-sockets")
        return {(each.check, each.object) for each in self.judged().findings if each.check not in elsewhere}

    def index(self, name: str) -> int:
        return self.namespace.call(lambda: socket.if_nametoindex(name))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with bare_room() as space:
        made = Place(space, tmp_path)
        yield made
        made.namespace.close()


def test_a_quiet_namespace_has_no_findings(place: Place) -> None:
    facts = place.looks()
    assert place.found() == set()
    unread = {name for name in Facts.__struct_fields__ if isinstance(getattr(facts, name), Unread)}
    assert unread <= {"hooks", "programs", "tracked"}
    assert "hooks" in {each.check for each in place.judged().unassessed}


CHAIN = "chain c {{ type filter hook {} priority {}; {} }}"


@pytest.mark.parametrize(
    ("family", "chain", "check"),
    [
        ("ip", CHAIN.format("prerouting", -300, "notrack"), "untracked-packets"),
        ("ip", CHAIN.format("prerouting", -400, "ip saddr set 10.9.0.7"), "rewritten-packets"),
        ("ip6", CHAIN.format("forward", 10, "ip6 daddr set fd00::1"), "rewritten-packets"),
        ("inet", CHAIN.format("postrouting", 10, "udp dport 5 udp dport set 6"), "rewritten-packets"),
        ("bridge", CHAIN.format("prerouting", -400, "ether saddr set 02:00:00:00:00:01"), "rewritten-packets"),
        ("ip", CHAIN.format("prerouting", 0, "dup to 10.9.0.7"), "forwarded-frames"),
        ("netdev", 'chain c { type filter hook ingress device "v0" priority 0; fwd to "v1"\n}', "forwarded-frames"),
        ("netdev", 'chain c { type filter hook ingress device "v0" priority 0; dup to "v1"\n}', "forwarded-frames"),
        (
            "netdev",
            'chain c { type filter hook egress device "v0" priority 0; ip daddr set 10.9.0.7\n}',
            "rewritten-packets",
        ),
        ("inet", CHAIN.format("forward", 1, "meta mark set 0x1"), "mark-bits"),
        ("inet", CHAIN.format("forward", 1, "meta mark set meta mark | 0x10000000"), "mark-bits"),
        ("inet", CHAIN.format("forward", 1, "ct mark set ct mark & 0xff"), "mark-bits"),
        ("inet", CHAIN.format("forward", 1, "meta mark set ct mark"), "mark-bits"),
        ("ip", "chain c { type nat hook output priority 0; udp dport 5 dnat to 10.9.0.7\n}", "late-translation"),
        ("ip", "chain c { type nat hook output priority -5; udp dport 5 redirect to :6\n}", "late-translation"),
    ],
)
def test_a_table_of_others_is_found_and_gone_with_it(place: Place, family: str, chain: str, check: str) -> None:
    place.rules(f"table {family} stranger {{ {chain.replace(' }', chr(10) + '}')}\n}}\n")
    assert place.found() == {(check, f"{family} stranger c")}
    place.rules(f"table {family} stranger {{ flags dormant; }}\n")
    assert place.found() == set(), "a dormant table is at no hook"
    place.rules(f"delete table {family} stranger\n")
    assert place.found() == set()


@pytest.mark.parametrize(
    "chain",
    [
        CHAIN.format("prerouting", -400, "accept"),
        CHAIN.format("forward", -400, "accept"),
        CHAIN.format("forward", 0, "drop"),
        CHAIN.format("forward", 0, "ip ttl set 63; ip dscp set cs1; tcp option maxseg size set 1400"),
        CHAIN.format("forward", 0, "meta mark set meta mark | 0x4000; ct mark set ct mark | 0x20"),
        CHAIN.format("forward", 0, 'ct helper set "none"').replace(
            'ct helper set "none"', "ct state established accept"
        ),
        "chain c { type nat hook prerouting priority -100; udp dport 5 dnat ip to 10.9.0.7\n}",
        "chain c { type nat hook postrouting priority 100; masquerade\n}",
    ],
)
def test_what_is_harmless_is_no_finding(place: Place, chain: str) -> None:
    place.rules(f"table inet stranger {{ {chain.replace(' }', chr(10) + '}')}\n}}\n")
    assert place.found() == set()


def test_a_rule_that_replaces_another_is_read_anew(place: Place) -> None:
    place.rules("table inet stranger { chain c { type filter hook forward priority 0; accept\n}\n}\n")
    assert place.found() == set()
    place.rules("flush chain inet stranger c\nadd rule inet stranger c meta mark set 0\n")
    assert place.found() == {("mark-bits", "inet stranger c")}
    place.rules("delete table inet stranger\n")
    place.rules("table inet stranger { chain c { type filter hook forward priority 0; accept\n}\n}\n")
    assert place.found() == set()


def test_our_own_tables_are_nobody_elses(place: Place) -> None:
    place.rules("table inet stockade { chain c { type filter hook forward priority 0; meta mark set 0\n}\n}\n")
    assert place.looks().tables == ()


@pytest.mark.parametrize(("variant", "where"), [("legacy", "legacy ip"), ("nft", "ip")])
@pytest.mark.parametrize(
    ("rule", "check"),
    [
        ("-t raw -A PREROUTING -p udp -j CT --notrack", "untracked-packets"),
        ("-t mangle -A FORWARD -j MARK --set-xmark 0x10000000/0x10000000", "mark-bits"),
        ("-t mangle -A FORWARD -j CONNMARK --save-mark", "mark-bits"),
        ("-t mangle -A FORWARD -j MARK --set-xmark 0x4000/0x4000", ""),
        ("-t filter -A FORWARD -j ACCEPT", ""),
        ("-t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.9.0.7", ""),
        ("-t nat -A POSTROUTING -j MASQUERADE", ""),
    ],
)
def test_the_older_programs_are_read(place: Place, variant: str, where: str, rule: str, check: str) -> None:
    place.tries(f"iptables-{variant}", *rule.split(), lacks=f"iptables-{variant} with {rule.split()[-2]}")
    table, chain = rule.split()[1], rule.split()[3]
    expected = {(check, f"{where} {table} {table if variant == 'legacy' else chain}")} if check else set()
    assert place.found() == expected
    place.does(f"iptables-{variant}", *rule.replace("-A", "-D").split())
    assert place.found() == set()


def test_a_filter_that_takes_frames_elsewhere_is_found(place: Place) -> None:
    place.tries("tc", "qdisc", "add", "dev", "v0", "clsact", lacks="clsact")
    assert place.found() == set()
    redirect = "filter add dev v0 ingress protocol all u32 match u32 0 0 action mirred egress redirect dev v1"
    place.tries("tc", *redirect.split(), lacks="u32 or mirred")
    assert place.found() == {("tc-filters", "v0 ingress")}
    (act,) = place.looks().traffic
    assert (act.act, act.target) == ("mirred", "v1")
    place.does("tc", "filter", "del", "dev", "v0", "ingress")
    place.does("tc", *redirect.replace("ingress protocol", "egress protocol").split())
    assert place.found() == {("tc-filters", "v0 egress")}
    place.does("tc", "qdisc", "del", "dev", "v0", "clsact")
    assert place.found() == set()


def test_a_filter_at_a_queue_and_one_behind_ingress(place: Place) -> None:
    mirror = "protocol all u32 match u32 0 0 action mirred egress mirror dev v1"
    place.tries("tc", "qdisc", "add", "dev", "v0", "ingress", lacks="the ingress qdisc")
    place.tries("tc", *f"filter add dev v0 parent ffff: {mirror}".split(), lacks="u32 or mirred")
    assert place.found() == {("tc-filters", "v0 ingress")}
    place.does("tc", "qdisc", "del", "dev", "v0", "ingress")
    place.tries("tc", *["qdisc", "add", "dev", "br0", "root", "handle", "1:", "prio"], lacks="prio")
    place.does("tc", *f"filter add dev br0 parent 1: {mirror}".split())
    assert place.found() == {("tc-filters", "br0 parent 1:")}


def test_shaping_over_an_ifb_is_no_finding(place: Place) -> None:
    """What a bandwidth plugin does: frames come back from there."""
    place.tries("ip", "link", "add", "ifb7", "type", "ifb", lacks="ifb")
    place.tries("tc", "qdisc", "add", "dev", "v0", "ingress", lacks="the ingress qdisc")
    redirect = "filter add dev v0 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev ifb7"
    place.tries("tc", *redirect.split(), lacks="u32 or mirred")
    assert place.found() == set()


def attached(what: str, place: Place) -> list[int]:
    """Load a program and attach it inside; return what holds it."""

    def inside() -> list[int]:
        match what:
            case "xdp":
                program = bpf_programs.load(bpf_programs.XDP)
                return [program, bpf_programs.link_xdp(program, socket.if_nametoindex("v0"))]
            case "tcx":
                program = bpf_programs.load(bpf_programs.SCHED_CLS)
                return [program, bpf_programs.link_tcx(program, socket.if_nametoindex("v0"))]
            case "netfilter":
                program = bpf_programs.load(bpf_programs.NETFILTER, bpf_programs.AT_NETFILTER)
                return [program, bpf_programs.link_netfilter(program, 2, -200)]
            case _:
                return [bpf_programs.load(bpf_programs.SK_MSG, bpf_programs.AT_SK_MSG)]

    return place.namespace.call(inside)


@pytest.mark.parametrize(
    ("what", "check", "object_"),
    [
        ("xdp", "xdp-programs", "v0"),
        ("tcx", "tc-filters", "v0"),
        ("netfilter", "bpf-netfilter", "netfilter"),
        ("sockets", "bpf-sockets", "between sockets"),
    ],
)
def test_programs_are_found_while_they_run(place: Place, what: str, check: str, object_: str) -> None:
    """Nobody tells of all of them: they are found by looks for which nothing has stirred."""

    def judged() -> Assessment:
        return assess(place.inspection.look(stirred=False), None)

    before = {each.object for each in judged().findings}
    try:
        held = attached(what, place)
    except OSError as problem:
        pytest.skip(f"this kernel takes no such program: {problem}")
    try:
        new = [each for each in judged().findings if each.object not in before]
        assert [(each.check, each.object.rpartition(" ")[0]) for each in new] == [(check, object_)]
        assert "(stranger)" in new[0].seen
    finally:
        for each in held[::-1]:
            os.close(each)
    assert {each.object for each in judged().findings} & {each.object for each in new} == set()


def test_who_may_not_ask_for_programs_is_told_that_nothing_was_assessed(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from stockade.cli.inspection import HostInspection
from stockade.core.posture.host import assess
said = assess(HostInspection(Path({str(tmp_path)!r}), Path({str(tmp_path)!r}) / "api.sock").look(), None)
print(sorted({{each.check for each in said.unassessed}}))
"""
    words = ["unshare", "-Urn", os.sys.executable, "-c", code]  # type: ignore[attr-defined]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "'bpf-programs'" in done.stdout


def test_tables_of_which_not_even_the_names_may_be_read_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "thread-self/net"
    folder.mkdir(parents=True)
    (folder / "arp_tables_names").write_text("filter\n", encoding="ascii")
    assert unlisted_tables(tmp_path) == ("arptables-legacy filter",)

    def refused(path: Path, **_: object) -> str:
        raise PermissionError(str(path)) if path.name == "arp_tables_names" else FileNotFoundError(str(path))

    monkeypatch.setattr(Path, "read_text", refused)
    assert unlisted_tables(tmp_path) == ("arptables-legacy's tables",)


def test_routing_rules_and_local_routes(place: Place) -> None:
    place.does("ip", "rule", "add", "from", "10.9.0.8", "table", "100")
    place.does("ip", "-6", "rule", "add", "fwmark", "5", "table", "100")
    place.does("ip", "route", "add", "local", "10.8.0.0/24", "dev", "lo")
    place.does("ip", "route", "add", "local", "default", "dev", "lo", "table", "99")
    place.does("ip", "route", "add", "10.7.0.0/24", "dev", "br0")
    assert place.found() == {
        ("routing-rules", "IPv4 32765"),
        ("routing-rules", "IPv6 32765"),
        ("local-routes", "10.8.0.0/24 table 255"),
        ("local-routes", "0.0.0.0/0 table 99"),
    }
    place.does("ip", "rule", "del", "from", "10.9.0.8", "table", "100")
    place.does("ip", "rule", "del", "pref", "32766")
    assert ("routing-rules", "IPv4 32765") not in place.found()


def test_settings_that_our_judgement_rests_on(place: Place) -> None:
    facts = place.looks()
    assert [each.name for each in facts.bridges] == ["br0"]
    assert ("v0", "br0") in {(each.name, each.bridge) for each in facts.ports}
    place.does("sysctl", "-qw", "net.ipv4.conf.br0.route_localnet=1")
    place.does("ip", "link", "set", "v0", "nomaster")
    place.does("ip", "link", "set", "br0", "type", "bridge", "nf_call_iptables", "1")
    facts = place.looks()
    assert facts.bridges[0].filters4
    assert not facts.bridges[0].filters6
    assert ("v0", "") in {(each.name, each.bridge) for each in facts.ports}
    assert place.found() == {("loopback-routing", "br0")}


# False alarms

DOCKER = """
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.9.0.0/24 ! -o br0 -j MASQUERADE
-A DOCKER -i br0 -j RETURN
-A DOCKER ! -i br0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.9.0.2:80
COMMIT
*filter
:DOCKER - [0:0]
:DOCKER-ISOLATION - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION
-A FORWARD -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o br0 -j DOCKER
-A FORWARD -i br0 ! -o br0 -j ACCEPT
-A DOCKER -d 10.9.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION -i br0 ! -o br0 -j RETURN
COMMIT
"""
KUBE_PROXY = """
*mangle
:KUBE-CANARY - [0:0]
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC - [0:0]
:KUBE-SEP - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC
-A KUBE-SVC -m statistic --mode random --probability 0.5 -j KUBE-SEP
-A KUBE-SEP -s 10.9.0.3/32 -j KUBE-MARK-MASQ
-A KUBE-SEP -p tcp -m tcp -j DNAT --to-destination 10.9.0.3:6443
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
"""
KUBE_PROXY_NFT = """
table ip kube-proxy {
  set cluster-ips { type ipv4_addr; elements = { 10.96.0.1 }
  }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.1 . tcp . 443 : goto service-a }
  }
  chain mark-for-masquerade { meta mark set meta mark | 0x00004000
  }
  chain masquerading { meta mark & 0x00004000 == 0 return
    meta mark set meta mark ^ 0x00004000
    masquerade fully-random
  }
  chain service-a { ip saddr != 10.9.0.0/16 jump mark-for-masquerade
    meta l4proto tcp dnat to 10.9.0.3:6443
  }
  chain services { ip daddr . meta l4proto . th dport vmap @service-ips
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services
  }
  chain nat-output { type nat hook output priority -100; policy accept; jump services
  }
  chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; jump masquerading
  }
  chain filter-forward { type filter hook forward priority -110; policy accept; ct state new ip daddr @cluster-ips drop
  }
}
"""
FIREWALLD = """
table inet firewalld {
  chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept; jump zones
  }
  chain zones { tcp flags syn tcp option maxseg size set 1400
  }
  chain nat_PREROUTING { type nat hook prerouting priority dstnat + 10; policy accept; tcp dport 8080 redirect to :80
  }
  chain nat_OUTPUT { type nat hook output priority -90; policy accept; tcp dport 8080 redirect to :80
  }
  chain nat_POSTROUTING { type nat hook postrouting priority srcnat + 10; policy accept; oifname "eth0" masquerade
  }
  chain filter_INPUT { type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    iifname "lo" accept
    ct state invalid drop
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; ct status dnat accept
    reject with icmpx admin-prohibited
  }
}
"""


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize("rules", [DOCKER, KUBE_PROXY], ids=["docker", "kube-proxy"])
def test_engines_and_their_proxies_are_no_finding(place: Place, variant: str, rules: str) -> None:
    words = ["nsenter", f"--net={place.space.netns}", f"iptables-{variant}-restore"]
    done = subprocess.run(words, input=rules.lstrip(), capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        pytest.skip(f"this kernel lacks a match or target: {done.stderr.strip()[:200]}")
    facts = place.looks()
    assert not isinstance(facts.tables, Unread)
    assert not isinstance(facts.legacy, Unread)
    assert any(each.acts for each in (*facts.tables, *facts.legacy)), "its rules were read"
    assert place.found() == set()


@pytest.mark.parametrize("rules", [KUBE_PROXY_NFT, FIREWALLD], ids=["kube-proxy", "firewalld"])
def test_ordinary_rulesets_are_no_finding(place: Place, rules: str) -> None:
    place.rules(rules)
    assert any(each.acts for each in place.looks().tables), "its rules were read"
    assert place.found() == set()


# Being told


def told(watches: list[object]) -> bool:
    """Whether any of them becomes readable, and is silent again once it was drained."""
    ready, _, _ = select.select(watches, [], [], 5)
    for each in watches:
        each.drain()  # type: ignore[attr-defined]
    again, _, _ = select.select(watches, [], [], 0)
    return bool(ready) and not again


@pytest.mark.parametrize(
    "change",
    [
        "nft add table ip stranger",
        "ip link add v8 type bridge",
        "ip rule add from 10.9.0.8 table 100",
        "ip route add local 10.8.0.0/24 dev lo",
        "tc qdisc add dev v0 clsact",
        "ip -6 rule add from fd00:9::8 table 100",
        "ip -6 route add local fd00:8::/64 dev lo",
        "ip link set v0 address 02:00:00:00:00:77",
    ],
)
def test_the_kernel_tells_when_to_look_again(place: Place, change: str) -> None:
    watches = list(place.inspection.watches())
    try:
        for each in watches:
            each.drain()
        assert select.select(watches, [], [], 0)[0] == []
        place.tries(*change.split(), lacks=change.rsplit(maxsplit=1)[-1])
        assert told(watches)
    finally:
        for each in watches:
            each.close()


# Our own files


def wrong(folder: Path) -> set[str]:
    files = own_files.own_files(folder, folder / "api.sock")
    said = assess(_only(files), None)
    return {each.object.removeprefix(f"{folder}/") for each in said.findings if each.object.startswith(str(folder))}


def _only(files: object) -> Facts:
    nothing = Unread("not looked at")
    parts = dict.fromkeys(Facts.__struct_fields__, nothing) | {"unlisted": (), "files": files}
    return Facts(**parts)  # type: ignore[arg-type]


def test_our_files_are_seen_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    for name in ("stockade.db", "assignment"):
        (folder / name).touch(mode=0o600)
    assert wrong(folder) == set()
    (folder / "stockade.db").chmod(0o644)
    (folder / "assignment").chmod(0o666)
    folder.chmod(0o755)
    assert wrong(folder) == {str(folder), "stockade.db", "assignment"}
    folder.chmod(0o700)
    assert own_files.tighten(folder) == (str(folder / "stockade.db"), str(folder / "assignment"))
    assert wrong(folder) == set()
    if os.geteuid() == 0 and not entered():
        os.chown(folder / "assignment", 12345, -1)
        assert wrong(folder) == {"assignment"}
        assert own_files.tighten(folder) == ()


def test_a_folder_above_that_others_may_rename_in_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "open" / "state"
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o777)
    seen = {each.path: each for each in own_files.own_files(folder, folder / "api.sock")}
    said = assess(_only(tuple(seen.values())), None)
    assert str(folder.parent) in {each.object for each in said.findings}
    folder.parent.chmod(0o1777)
    seen = {each.path: each for each in own_files.own_files(folder, folder / "api.sock")}
    said = assess(_only(tuple(seen.values())), None)
    assert str(folder.parent) not in {each.object for each in said.findings}


def test_what_runs_as_root_is_among_them(tmp_path: Path) -> None:
    seen = {each.path for each in own_files.own_files(tmp_path, tmp_path / "api.sock")}
    for part in ("nfthelper/__main__.py", "agent/run.py", "cli"):
        assert str(own_files.PACKAGE / part) in seen
    assert str(own_files.PACKAGE.parent) in seen
    assert "/" in seen
