"""What the tests of policy share: reading texts, and strategies for policy sets that documents can say."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from stockade.core import policy, select
from stockade.core.model.ids import Address, Prefix, RuleId
from stockade.core.model.inventory import WorkloadKind
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
    PolicySet,
    PolicyTest,
    Quarantine,
    QuarantineException,
    Rule,
    Selected,
    Service,
    TestEnd,
    UnmanagedWorkload,
)
from stockade.core.model.selector import ALL, And, Equal, Has, In, Not, Or, Selector
from stockade.core.policy.networks import unusable

HEAD = "apiVersion: stockade.dev/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: "


def read(*texts: str) -> policy.Draft:
    return policy.read(
        [policy.SourceText(f"{number}.yaml", text.encode()) for number, text in enumerate(texts)],
    )


def spec(kind: str, text: str, name: str = "x") -> str:
    return HEAD.format(kind=kind, name=name) + text + "\n"


names = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True)
free_names = names.filter(lambda name: name not in ("any", "tcp", "udp", "sctp", "icmp", "icmpv6")).filter(
    lambda name: not name.isdecimal()
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
keys = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_./-]{0,8}[A-Za-z0-9])?", fullmatch=True).filter(select.is_key)
keys_or_reserved_by_yaml = keys | st.sampled_from(["on", "yes", "null", "1", "1.5"])
leaves: st.SearchStrategy[Selector] = st.one_of(
    st.just(ALL),
    st.builds(Equal, keys, texts),
    st.builds(Has, keys),
    st.builds(In, keys, st.lists(texts, min_size=1, max_size=3).map(tuple)),
)
selectors = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=4,
).map(select.normal)

points = st.integers(1, 65535)
icmp_types = st.integers(0, 255)
ports = st.one_of(
    st.builds(Ports, st.sampled_from(list(Protocol))),
    st.builds(
        lambda protocol, a, b: Ports(protocol, min(a, b), max(a, b)),
        st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.SCTP]),
        points,
        points,
    ),
    st.builds(
        lambda protocol, kind: Ports(protocol, kind * 256, kind * 256 + 255),
        st.sampled_from([Protocol.ICMP, Protocol.ICMPV6]),
        icmp_types,
    ),
    st.builds(
        lambda protocol, point: Ports(protocol, point, point),
        st.sampled_from([Protocol.ICMP, Protocol.ICMPV6]),
        st.integers(0, 65535),
    ),
)
SERVICES = ("ssh", "https", "dns", "ping")
NETWORKS = ("world", "private", "metadata")
refs = ports | st.sampled_from(SERVICES)
ons = st.lists(refs, max_size=3).map(tuple)
selected = st.builds(Selected, selectors, st.booleans())
networks = st.builds(Networks, st.lists(st.sampled_from(NETWORKS), min_size=1, unique=True).map(sorted).map(tuple))
prefixes = st.one_of(
    st.ip_addresses(v=4).map(lambda address: Prefix(f"{address}/32")),
    st.sampled_from([Prefix("10.0.0.0/8"), Prefix("2001:db8::/32"), Prefix("0.0.0.0/0"), Prefix("::/0")]),
)
label_maps = st.dictionaries(keys_or_reserved_by_yaml, texts, max_size=3).map(
    lambda found: tuple(sorted(found.items()))
)
shown_labels = st.dictionaries(
    keys_or_reserved_by_yaml.filter(lambda key: key != "name"), texts.filter(select.shows), max_size=3
).map(lambda found: tuple(sorted(found.items())))
own_addresses = (
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str).filter(lambda it: not unusable(it)).map(Address)
)
test_labels = st.builds(TestEnd, labels=label_maps)


@st.composite
def policies(draw: st.DrawFn, name: str) -> Policy:
    rules = []
    for rule in draw(st.lists(names, unique=True, max_size=3)):
        ends = draw(st.sampled_from([(selected, selected), (networks, selected), (selected, networks)]))
        source, destination = draw(ends[0]), draw(ends[1])
        action, keep = draw(st.sampled_from(list(Action))), draw(st.booleans())
        rules.append(Rule(RuleId(f"{name}/{rule}"), action, source, destination, draw(ons), keep))
    expectations = st.sampled_from(list(Expectation))
    point = st.sampled_from([Ports(Protocol.TCP, 80, 80), Ports(Protocol.ICMP, 2048, 2303), "ssh"])
    tests = draw(st.lists(st.builds(PolicyTest, test_labels, test_labels, point, expectations), max_size=2))
    return Policy(name, tuple(rules), draw(selectors), tuple(tests))


exceptions = st.one_of(
    st.builds(lambda end, on: QuarantineException(end, None, on), selected | networks, ons),
    st.builds(lambda end, on: QuarantineException(None, end, on), selected | networks, ons),
)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001
fact_texts = st.from_regex(r"[a-z*?]{1,8}", fullmatch=True)


def _sorted(values: list[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


@st.composite
def policy_sets(draw: st.DrawFn) -> PolicySet:
    def several(of: st.SearchStrategy[str] = names) -> list[str]:
        return sorted(draw(st.lists(of, unique=True, max_size=1)))

    units = st.none() | st.sampled_from(["node-exporter.service", "a@b.socket"])
    rules = st.dictionaries(
        keys, st.sampled_from(["{host}", "a-{label:x y}", "fixed", 'quo"te']), min_size=1, max_size=2
    )
    conditions = st.dictionaries(st.sampled_from(["runtime", "image", "label:a b", "tag:on"]), fact_texts, max_size=2)
    return PolicySet(
        policies=tuple(draw(policies(name)) for name in several()),
        services=tuple(
            Service(
                name,
                tuple(sorted(set(draw(st.lists(ports, min_size=1, max_size=3))))),
                draw(st.none() | st.just("/usr/bin/a b")),
                draw(units),
            )
            for name in several(free_names)
        ),
        network_sets=tuple(
            NetworkSet(
                name,
                tuple(sorted({Prefix("0.0.0.0/0"), Prefix("::/0"), *draw(st.lists(prefixes, max_size=2))})),
                tuple(sorted(set(draw(st.lists(prefixes, max_size=2))))),
                _sorted(draw(st.lists(st.sampled_from(["a.example", "*.b.example"]), max_size=2))),
            )
            for name in several(names.filter(lambda name: name not in (*NETWORKS, "resolvers")))
        ),
        label_rules=tuple(
            LabelRule(
                name,
                tuple(draw(rules).items()),
                tuple(sorted(draw(conditions).items())),
                draw(st.sampled_from(list(LabelSource))),
            )
            for name in several()
        ),
        modes=tuple(
            EnforcementMode(
                name,
                draw(selectors),
                draw(st.sampled_from(list(Mode))),
                draw(st.integers(-5, 5)),
                draw(st.none() | st.sampled_from(list(Births))),
            )
            for name in several()
        ),
        invariants=tuple(
            Invariant(name, draw(st.builds(draw(st.sampled_from([Only, Never])), selectors, selectors, ons)))
            for name in several()
        ),
        quarantines=tuple(
            Quarantine(
                name,
                draw(selectors),
                tuple(draw(st.lists(exceptions, max_size=2))),
                draw(st.just("") | texts),
                draw(st.none() | moments),
            )
            for name in several()
        ),
        workloads=tuple(
            UnmanagedWorkload(
                name,
                tuple(sorted(draw(st.sets(own_addresses, min_size=1, max_size=3)))),
                draw(shown_labels),
                draw(st.just("") | texts),
                draw(st.sampled_from([WorkloadKind.UNMANAGED, WorkloadKind.VM, WorkloadKind.INSTANCE])),
                draw(st.just("") | texts),
            )
            for name in several()
        ),
    )
