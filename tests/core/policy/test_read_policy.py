"""What documents say, and what every mistake in them is told: where, what, and what was meant."""

from datetime import UTC, datetime

import pytest
from drafts import read, spec

from stockade.core import policy
from stockade.core.model.ids import Prefix, RuleId
from stockade.core.model.labels import LabelSource
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import (
    Action,
    Births,
    EnforcementMode,
    Expectation,
    Invariant,
    LabelRule,
    Mode,
    Networks,
    NetworkSet,
    Never,
    Only,
    Policy,
    PolicyTest,
    Quarantine,
    QuarantineException,
    Rule,
    Selected,
    Service,
    TestEnd,
    Where,
)
from stockade.core.model.selector import ALL, And, Equal, In
from stockade.core.policy import nodes

SHOP = """\
apiVersion: stockade.dev/v1
kind: Policy
metadata: {name: shop}
spec:
  scope: app = shop and env = prod
  rules:
    - name: web-to-api
      allow: {from: role = web, to: "role in (b, a)", on: [tcp/8080, ssh]}
      established: keep
    - {name: monitoring, deny: {from: any(app = prometheus), to: all}}
    - {name: out, overrideDeny: {from: all, to: "networks(world, private)", on: [any]}}
  tests:
    - {from: {role: web}, to: 2001:DB8::1, on: icmpv6/128, expect: deny}
"""


def test_a_policy() -> None:
    draft = read(SHOP)
    assert draft.problems == ()
    assert draft.documents == (policy.Written("Policy", "shop", Where("0.yaml", 4, 1)),)
    assert draft.policy.policies == (
        Policy(
            "shop",
            (
                Rule(
                    RuleId("shop/web-to-api"),
                    Action.ALLOW,
                    Selected(Equal("role", "web")),
                    Selected(In("role", ("a", "b"))),
                    (Ports(Protocol.TCP, 8080, 8080), "ssh"),
                    keep=True,
                    where=Where("0.yaml", 7, 7),
                ),
                Rule(
                    RuleId("shop/monitoring"),
                    Action.DENY,
                    Selected(Equal("app", "prometheus"), anywhere=True),
                    Selected(ALL),
                    where=Where("0.yaml", 10, 7),
                ),
                Rule(
                    RuleId("shop/out"),
                    Action.OVERRIDE_DENY,
                    Selected(ALL),
                    Networks(("private", "world")),
                    (Ports(Protocol.ANY),),
                    where=Where("0.yaml", 11, 7),
                ),
            ),
            And((Equal("app", "shop"), Equal("env", "prod"))),
            (
                PolicyTest(
                    TestEnd(labels=(("role", "web"),)),
                    TestEnd(address="2001:db8::1"),
                    Ports(Protocol.ICMPV6, 128 * 256, 128 * 256 + 255),
                    Expectation.DENY,
                    Where("0.yaml", 13, 7),
                ),
            ),
            Where("0.yaml", 4, 1),
        ),
    )


HERE = Where("0.yaml", 4, 1)
DOCUMENTS = [
    (
        spec("Service", "{ports: [tcp/9090-9100, udp/53], unit: node-exporter.service, process: /usr/bin/x}"),
        Service(
            "x",
            (Ports(Protocol.TCP, 9090, 9100), Ports(Protocol.UDP, 53, 53)),
            "/usr/bin/x",
            "node-exporter.service",
            HERE,
        ),
    ),
    (
        spec(
            "NetworkSet",
            '{cidrs: [203.0.113.0/24, "2001:DB8:7::/48", 10.0.0.1], except: [203.0.113.7/32], fqdns: [api.x.example]}',
        ),
        NetworkSet(
            "x",
            (Prefix("10.0.0.1/32"), Prefix("2001:db8:7::/48"), Prefix("203.0.113.0/24")),
            (Prefix("203.0.113.7/32"),),
            ("api.x.example",),
            HERE,
        ),
    ),
    (
        spec("LabelRule", '{source: runtime, where: {runtime: docker}, set: {z: "{label:a}", app: "{label:b}-x"}}'),
        LabelRule(
            "x", (("z", "{label:a}"), ("app", "{label:b}-x")), (("runtime", "docker"),), LabelSource.RUNTIME, HERE
        ),
    ),
    (
        spec("EnforcementMode", "{select: env = prod, mode: full, priority: -10, births: pass}"),
        EnforcementMode("x", Equal("env", "prod"), Mode.FULL, -10, Births.PASS, HERE),
    ),
    (
        spec("Invariant", "{only: role = api, reaches: role = db, on: [postgres]}"),
        Invariant("x", Only(Equal("role", "api"), Equal("role", "db"), ("postgres",)), HERE),
    ),
    (
        spec("Invariant", "{never: env = dev, reaches: env = prod}"),
        Invariant("x", Never(Equal("env", "dev"), Equal("env", "prod")), HERE),
    ),
    (
        spec(
            "Quarantine",
            "{select: name = web-2, except: [{from: networks(private), on: [ssh]}], reason: scan, "
            "until: 2030-01-01T02:00:00+02:00}",
        ),
        Quarantine(
            "x",
            Equal("name", "web-2"),
            (QuarantineException(Networks(("private",)), None, ("ssh",)),),
            "scan",
            datetime(2030, 1, 1, tzinfo=UTC),
            HERE,
        ),
    ),
]


@pytest.mark.parametrize(("text", "expected"), DOCUMENTS)
def test_each_kind(text: str, expected: object) -> None:
    draft = read(text)
    assert draft.problems == ()
    found = [each for name in draft.policy.__struct_fields__ for each in getattr(draft.policy, name)]
    assert found == [expected]


ALLOW = "{rules: [{name: a, allow: {from: %s, to: all, on: %s}}]}"


def rule(source: str = "all", on: str = "[any]") -> str:
    return spec("Policy", ALLOW % (source, on))


# The text, a part of it that is the mistake (| marks its start and end), what is said, what is nearest.
MISTAKES = [
    (rule(on="[|postgress|]"), "unknown service", "postgres"),
    (rule(on="[|80|]"), "needs its protocol", "tcp/80"),
    (rule(on="[|443/tcp|]"), "protocol comes first", "tcp/443"),
    (rule(on="[|tpc/80|]"), "unknown protocol", "tcp/80"),
    (rule(on="[|tcp/0|]"), "not a port", ""),
    (rule(on="[|tcp/65536|]"), "not a port", ""),
    (rule(on="[|tcp/90-80|]"), "ends before it begins", "tcp/80-90"),
    (rule(on="[|icmp/echo-requst|]"), "no ICMP type", "echo-request"),
    (rule(on="[|any/80|]"), "takes none", "any"),
    (rule(on="|tcp/80|"), "a list of services", "[tcp/80]"),
    (rule(on="|[|]"), "empty list", ""),
    (rule("role |==| web"), "no sign", "="),
    (rule('"role |==| web"'), "no sign", "="),
    (rule("any(role |==| web)"), "no sign", "="),
    (rule("any(role = web|"), "", ""),
    (rule("networks(|worldd|)"), "unknown network set", "world"),
    (rule('"networks(world, |metdata|)"'), "unknown network set", "metadata"),
    (rule('"networks(world,|)|"'), "not the name", ""),
    (rule("|role in (web|, api)"), "a comma ends the value", '"role in (web, api)"'),
    (rule("|networks(world|, private)"), "a comma ends the value", '"networks(world, private)"'),
    (rule("|[|a]"), "a list stands where", ""),
    (rule("|12|"), "reads this as a number", '"12"'),
    (rule("|yes|"), "true or false", '"yes"'),
    (rule("||"), "is missing", ""),
    (spec("Policy", "{|scop|: all}"), "unknown field", "scope"),
    (spec("Policy", "{scope: all, |scope|: all}"), "twice", ""),
    (spec("Policy", "|x|"), "stands where the policy belongs", ""),
    (spec("Policy", "{rules: [|{|name: a}]}"), "no action", ""),
    (spec("Policy", "{rules: [|{|allow: {from: all, to: all}}]}"), 'lacks the field "name"', ""),
    (
        spec("Policy", "{rules: [|{|name: a, allow: {from: all, to: all}, deny: {from: all, to: all}}]}"),
        "one action",
        "",
    ),
    (spec("Policy", "{rules: [{name: a, allow: |{|to: all}}]}"), 'lacks the field "from"', ""),
    (spec("Policy", "{rules: [{name: a, allow: {from: networks(world), |to|: networks(world)}}]}"), "neither end", ""),
    (spec("Policy", "{rules: [{name: |A_b|, allow: {from: all, to: all}}]}"), "cannot be a name", "a-b"),
    (spec("Policy", "{rules: [{name: a, allow: {from: all, to: all}, established: |kep|}]}"), "unknown word", "keep"),
    (
        spec("Policy", "{rules: [{name: a, allow: {from: all, to: all}}, |{name: a, deny: {from: all, to: all}}]}|"),
        "a second rule",
        "",
    ),
    (spec("Policy", "{tests: [{from: {role: |1.10|}, to: {}, on: ssh, expect: deny}]}"), "a number", '"1.10"'),
    (
        spec("Policy", "{tests: [{from: {role: x}, to: |10.0.0|, on: ssh, expect: deny}]}"),
        "a number|not an address",
        "",
    ),
    (spec("Policy", "{tests: [{from: {a: x}, to: {}, on: |tcp/1-2|, expect: deny}]}"), "more than one port", ""),
    (spec("Policy", "{tests: [{from: {a: x}, to: {}, on: |tcp|, expect: deny}]}"), "more than one port", ""),
    (spec("Policy", "{tests: [{from: {a: x}, to: {}, on: ssh, expect: |denny|}]}"), "unknown expectation", "deny"),
    (spec("Policy", "{tests: [{from: 10.0.0.1, |to|: 10.0.0.2, on: ssh, expect: deny}]}"), "neither end", ""),
    (spec("Policy", "{tests: [{from: {|and|: x}, to: {}, on: ssh, expect: deny}]}"), "cannot be a label's key", ""),
    (spec("Policie", "{}").replace("Policie", "|Policie|"), "unknown kind", "Policy"),
    (spec("Policy", "{}").replace("stockade.dev/v1", "|v1|"), "unknown apiVersion", "stockade.dev/v1"),
    (spec("Policy", "{}", name="|a/b|"), "cannot be a name", "a-b"),
    (spec("Policy", "{}", name="|'x\" drop; flush ruleset'|"), "cannot be a name", "x-drop-flush-ruleset"),
    (spec("Policy", "{}", name='|"x\\ny"|'), "cannot be a name", "x-y"),
    (spec("Policy", "{}", name="|" + "a" * 64 + "|"), "cannot be a name", "a" * 63),
    (spec("Policy", "{}", name="|007|"), "a number", '"007"'),
    (spec("Service", "{ports: [tcp/1]}", name="|tcp|"), "cannot name a service", ""),
    (spec("Service", "|{|unit: x.service}"), 'lacks the field "ports"', ""),
    (spec("Service", "{ports: [|ssh|]}"), "unknown protocol", ""),
    (spec("Service", "{ports: [tcp/1], unit: |exporter|}"), "systemd unit", ""),
    (spec("Service", "{ports: [tcp/1], process: |bin/x|}"), "absolute path", ""),
    (spec("NetworkSet", "{cidrs: [|10.0.0.1/8|]}"), "bits beyond its prefix", "10.0.0.0/8"),
    (spec("NetworkSet", "{cidrs: [|10.0.0.0/33|]}"), "not a CIDR", ""),
    (spec("NetworkSet", "{cidrs: [|10.0.0.0/255.0.0.0|]}"), "not a CIDR", ""),
    (spec("NetworkSet", "{cidrs: [|fe80::1%eth0|]}"), "not a CIDR", ""),
    (spec("NetworkSet", "{cidrs: [10.0.0.0/8], |except|: [11.0.0.0/8]}"), "inside no CIDR", ""),
    (spec("NetworkSet", "{fqdns: [|A.example|]}"), "domain name", ""),
    (spec("NetworkSet", "|{|except: [10.0.0.0/8]}"), "holds nothing", ""),
    (spec("NetworkSet", "{fqdns: [a.example]}", name="resolvers").replace("spec", "|spec"), "addresses alone", ""),
    (spec("LabelRule", "{set: {|name|: x}}"), "cannot be set", ""),
    (spec("LabelRule", '{set: {a: "x{|labels:x|}"}}').replace("{|", "|{").replace("|}", "}|"), "unknown fact", ""),
    (spec("LabelRule", '{|set|: {a: "{label:x*}"}}'), "follows no *", ""),
    (spec("LabelRule", "{set: {a: b}, where: {|imagine|: x}}"), "unknown fact", "image"),
    (spec("LabelRule", "{set: {a: b}, where: {|xyzzy|: x}}"), "unknown fact", ""),
    (spec("LabelRule", "{set: {a: b}, |where|: {kind: contaner}}"), "no workload is of the kind", "container"),
    (spec("LabelRule", "{set: {a: b}, |where|: {cidr: x}}"), "not a CIDR", ""),
    (spec("LabelRule", "{set: {a: b, |a|: c}}"), "twice", ""),
    (spec("LabelRule", "{source: |runtimes|, set: {a: b}}"), "unknown label source", "runtime"),
    (spec("EnforcementMode", "{select: all, mode: |ful|}"), "unknown mode", "full"),
    (spec("EnforcementMode", "{select: all, mode: full, priority: |high|}"), "not a priority", ""),
    (spec("EnforcementMode", '{select: all, mode: full, priority: |"1"|}'), "not a priority", ""),
    (spec("EnforcementMode", "{select: all, mode: full, births: |holt|}"), "unknown word", "hold"),
    (spec("EnforcementMode", "{select: |trusted(a = b)|, mode: full}"), "no meaning for a mode", ""),
    (spec("Invariant", "|{|reaches: all}"), "only or never", ""),
    (spec("Invariant", "|{|only: all, never: all, reaches: all}"), "only or never", ""),
    (spec("Quarantine", "{select: all, except: [|{|on: [ssh]}]}"), "from or to", ""),
    (spec("Quarantine", "{select: all, until: |2030-02-31T00:00:00Z|}"), "not a moment", ""),
    (spec("Quarantine", "{select: all, until: |2030-01-01T00:00:00|}"), "not a moment", ""),
    (spec("Quarantine", '{select: all, reason: |""|}'), "1 to 1000", ""),
]


def _marked(text: str) -> tuple[str, int, int, int]:
    """Take the marks out of a text: line, column and length of what they enclose; without a second mark 0."""
    before, _, rest = text.partition("|")
    marked, closed, after = rest.partition("|")
    length = (len(marked) or 1) if closed else 0
    line = before.count("\n") + 1
    return before + marked + after, line, len(before) - before.rfind("\n"), length


@pytest.mark.parametrize(("text", "message", "near"), MISTAKES)
def test_a_mistake_has_a_place_a_reason_and_the_nearest_spelling(text: str, message: str, near: str) -> None:
    text, line, column, length = _marked(text)
    draft = read(text)
    assert len(draft.problems) == 1
    problem = draft.problems[0]
    assert any(part in problem.message for part in message.split("|"))
    assert (problem.where.line, problem.nearest) == (line, near)
    if length:
        assert (problem.where.column, problem.length) == (column, length)
    assert problem.excerpt == text.splitlines()[line - 1]


def test_a_denied_set_of_names_is_refused() -> None:
    named = spec("NetworkSet", "{cidrs: [10.0.0.0/8], fqdns: [a.example]}", name="named")
    deny = spec("Policy", "{rules: [{name: a, deny: {from: all, to: networks(named)}}]}")
    assert [problem.message for problem in read(named, deny).problems] == [
        '"named" holds FQDNs, which only an allow may name'
    ]
    assert read(named, deny.replace("deny", "allow")).problems == ()


def test_a_second_document_of_one_name_is_named_with_the_first() -> None:
    draft = read(
        spec("Service", "{ports: [tcp/1]}"), spec("Service", "{ports: [tcp/2]}") + "---\n" + spec("Policy", "{}")
    )
    assert [(problem.where.file, problem.where.line) for problem in draft.problems] == [("1.yaml", 3)]
    assert draft.problems[0].expected == "another name (see 0.yaml:4)"


def test_documents_name_each_other_across_files_in_any_order() -> None:
    user = spec("Policy", "{rules: [{name: a, allow: {from: all, to: networks(mine), on: [metrics]}}]}")
    mine, metrics = spec("NetworkSet", "{cidrs: [10.0.0.0/8]}", "mine"), spec("Service", "{ports: [tcp/1]}", "metrics")
    assert read(user, mine, metrics).problems == ()
    assert len(read(user).problems) == 2


def test_a_refused_document_is_still_known_by_name() -> None:
    user = spec("Policy", "{rules: [{name: a, allow: {from: all, to: networks(mine)}}]}")
    problems = read(user, spec("NetworkSet", "{cidrs: [x]}", "mine")).problems
    assert [problem.message for problem in problems] == ['"x" is not a CIDR']


def test_every_mistake_of_every_file_is_reported_and_good_documents_are_read() -> None:
    bad = "".join(text + "---\n" for text, _, _ in (_strip(entry) for entry in MISTAKES))
    draft = read(bad, SHOP)
    assert len({problem.where for problem in draft.problems if problem.where.file == "0.yaml"}) >= len(MISTAKES) * 0.9
    assert [each.name for each in draft.policy.policies if each.where.file == "1.yaml"] == ["shop"]


def _strip(entry: tuple[str, str, str]) -> tuple[str, str, str]:
    text, message, near = entry
    return _marked(text)[0], message, near


BROKEN = [
    (b"a: \xff\n", 1, 4, "byte 0xff is not UTF-8"),
    ("ä: ".encode() + b"\xe9", 1, 4, "byte 0xe9 is not UTF-8"),
    ("kind: Policy".encode("utf-16"), 1, 1, "is not UTF-8"),
    (b"a: x\nb: \x00\n", 2, 4, "control character U+0000"),
    (b"a: \x1b[2J\n", 1, 4, "control character U+001B"),
    (b"", 1, 1, "holds no document"),
    (b"# only a remark\n", 1, 1, "holds no document"),
    (b"---\n", 2, 1, "this document is empty"),
    (b"a:\n\tb: c\n", 2, 1, "a tab cannot indent"),
    (b"a: b: c\n", 1, 5, 'a ":" too many'),
    (b"a: [b, c\n", 1, 4, "is not closed"),
    (b"a: {b: c\n", 1, 4, "is not closed"),
    (b"a: 'b\n", 1, 4, "quoted text cannot be read"),
    (b"a: @b\n", 1, 4, 'cannot begin with "@"'),
    (b"a: &x b\n", 1, 4, "anchors and aliases"),
    (b"a: *x\n", 1, 4, "anchors and aliases"),
    (b"a: !!python/object/apply:os.system [x]\n", 1, 4, "tags are not part"),
    (b"a: !!str x\n", 1, 4, "tags are not part"),
    (b"a: " + b"[" * 100, 1, 20, "nested too deeply"),
    (b"- x\n", 1, 1, "a list stands where the document belongs"),
    (b"{{ .Values.x }}: y\n", 1, 1, "a mapping stands where a field's name belongs"),
    (b"x", 1, 1, '"x" stands where the document belongs'),
    (b"x" * (4 * 1024 * 1024 + 1), 1, 1, "bytes"),
]


@pytest.mark.parametrize(("content", "line", "column", "message"), BROKEN, ids=[each[3] for each in BROKEN])
def test_what_is_no_document_at_all(content: bytes, line: int, column: int, message: str) -> None:
    problem = policy.read([policy.SourceText("x.yaml", content)]).problems[0]
    assert message in problem.message
    assert (problem.where.line, problem.where.column) == (line, column)
    assert problem.excerpt.isprintable()


def test_what_one_file_holds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "NODE_LIMIT", 100)
    draft = read("[" + "a," * 101 + "]\n---\n" + spec("Service", "{ports: [tcp/1]}"))
    assert [problem.message for problem in draft.problems] == ["the file holds too much"] * 2
    assert draft.policy.services == ()


def test_after_what_is_not_yaml_reading_goes_on_at_the_next_document() -> None:
    text = (
        "a: [\n---\n"
        + spec("Service", "{ports: [tcp/1]}")
        + "---\nb: *x\n---\n"
        + spec("Service", "{ports: [tcp/99999]}", "y")
    )
    draft = read(text)
    assert [problem.where.line for problem in draft.problems] == [2, 8, 13]
    assert [each.name for each in draft.policy.services] == ["x"]


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter() -> None:
    draft = policy.read([policy.SourceText("x.yaml", b"\xef\xbb\xbf" + SHOP.replace("\n", "\r\n").encode())])
    assert draft.problems == ()
    assert policy.content_hash(draft.policy) == policy.content_hash(read(SHOP).policy)


def test_no_more_problems_are_listed_than_anybody_reads() -> None:
    draft = read("a: b\n---\n" * 300)
    assert len(draft.problems) == 200
    assert draft.unlisted > 0


def test_no_files_are_an_empty_draft() -> None:
    assert policy.read([]) == policy.Draft()


def test_a_problem_as_the_terminal_shows_it() -> None:
    problem = read(rule(on="[postgress]")).problems[0]
    assert policy.shown(problem) == (
        '0.yaml:4:60: unknown service "postgress"; did you mean "postgres"?\n'
        "    4 │ spec: {rules: [{name: a, allow: {from: all, to: all, on: [postgress]}}]}\n"
        "      │                                                            ^^^^^^^^^"
    ).replace("4:60", f"4:{problem.where.column}").replace(" " * 60 + "^", " " * problem.where.column + "^")
