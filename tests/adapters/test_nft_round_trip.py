"""What is committed to the real kernel is read back as it was meant."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import msgspec
import pytest
from nft_rooms import Room, room

from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.rule import rule
from stockade.core.compile.nft.ruleset import Chain, ElementSet, Ruleset, Table, rule_comment
from stockade.core.reconcile import settled
from stockade.testing.kernel import FakeKernel
from stockade.testing.worlds import world

pytestmark = pytest.mark.real
FORWARD = "type filter hook forward priority -5; policy accept;"
BRIDGE = "type filter hook prerouting priority -300; policy accept;"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with room(tmp_path_factory.mktemp("nft")) as made:
        yield made


@pytest.fixture
def space(shared: Room) -> Room:
    shared.apply(Ruleset())
    return shared


def varied() -> Ruleset:
    """Every kind of set, element and chain that our tables use."""
    sets = {
        "layout": ElementSet("mark", comment="stockade layout 1"),
        "four": ElementSet("ipv4_addr", elements=frozenset({"10.0.0.1", "255.255.255.255", "0.0.0.0"})),
        "six": ElementSet("ipv6_addr", elements=frozenset({"::", "::1", "fe80::1", "2001:db8::", "::ffff:a00:1"})),
        "service4": ElementSet("ipv4_addr . inet_service", elements=frozenset({"10.0.0.1 . 22", "10.0.0.1 . 65535"})),
        "pair6": ElementSet("ipv6_addr . ipv6_addr", elements=frozenset({"::1 . fe80::1"})),
        "own4": ElementSet(
            "ifname . ether_addr . ipv4_addr",
            elements=frozenset(
                {'"eth0.1" . 02:42:ac:11:00:02 . 10.0.0.1', '"veth@a:b-c" . 02:00:00:00:00:01 . 10.0.0.2'}
            ),
        ),
        "ports": ElementSet("ifname", elements=frozenset({'"a"', '"br-0123456789ab"', '"0"'})),
        "nets4": ElementSet(
            "ipv4_addr",
            flags=("interval",),
            elements=frozenset(
                {"0.0.0.0/5", "10.0.0.0/9", "10.128.0.0/9", "11.0.0.1", "11.0.0.3-11.0.0.9", "224.0.0.0/3"}
            ),
        ),
        "all4": ElementSet("ipv4_addr", flags=("interval",), elements=frozenset({"0.0.0.0/0"})),
        "nets6": ElementSet(
            "ipv6_addr",
            flags=("interval",),
            elements=frozenset({"::/96", "::1:0:0/96", "2001:db8::/32", "fe80::1", "fe80::3-fe80::9", "ff00::/8"}),
        ),
        "all6": ElementSet("ipv6_addr", flags=("interval",), elements=frozenset({"::/0"})),
        "seen": ElementSet("ipv4_addr . inet_service", flags=("dynamic", "timeout"), dynamic=True),
        "timed": ElementSet(
            "ipv4_addr", flags=("timeout",), timeout=86400, elements=frozenset({"10.0.0.1 timeout 3661s", "10.0.0.2"})
        ),
        "ways": ElementSet(
            "ipv4_addr",
            data="verdict",
            elements=frozenset({"10.0.0.1 : goto web", "10.0.0.2 : jump web", "10.0.0.3 : drop", "10.0.0.4 : accept"}),
        ),
        "published": ElementSet(
            "ipv6_addr . inet_service", data="verdict", elements=frozenset({"::1 . 8080 : goto web"})
        ),
        "empty": ElementSet("ipv4_addr", data="verdict"),
    }
    web = (
        rule("meta l4proto tcp update @seen { ip saddr . th dport timeout 10s }"),
        rule("ip saddr @four counter name denied drop"),
        rule("meta l4proto tcp ct reply proto-src vmap { 80 : goto last, 443-500 : goto last }"),
        rule("goto last"),
    )
    forward = (
        rule("ct original ip daddr vmap @ways"),
        rule("iifname . ether saddr . ip saddr @own4 accept"),
        rule("ct state new tcp flags & (fin|syn|rst|ack) != syn drop"),
        rule("drop"),
    )
    chains = {"web": Chain("", web), "last": Chain("", (rule("accept"),)), "forward": Chain(FORWARD, forward)}
    claims = ElementSet(
        "typeof iifname . ether saddr . @th,64,128",
        elements=frozenset(
            {
                '"a" . 02:42:ac:11:00:02 . 0x00000000000000000000000000000001',
                '"a" . 02:42:ac:11:00:02 . 0xfe8000000000000000000000000000ff',
            }
        ),
    )
    first = rule("icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @claims drop")
    return Ruleset(
        (
            Table("inet", sets=sets, counters=frozenset({"denied", "c012345"}), chains=chains),
            Table("bridge", sets={"claims": claims}, chains={"prerouting": Chain(BRIDGE, (first,))}),
        )
    )


def parts(ruleset: Ruleset) -> dict[tuple[str, str, str], object]:
    """What a ruleset is made of; rules as their comments, since nft spells a rule in its own way."""
    found: dict[tuple[str, str, str], object] = {}
    for table in ruleset.tables:
        found[table.family, "table", ""] = sorted(table.counters)
        for name, declared in table.sets.items():
            found[table.family, "set", name] = declared
        for name, chain in table.chains.items():
            found[table.family, "chain", name] = (chain.hook, tuple(map(rule_comment, chain.rules)))
    return found


def differences(one: Ruleset, other: Ruleset) -> list[object]:
    left, right = parts(one), parts(other)
    return [(key, left.get(key), right.get(key)) for key in {*left, *right} if left.get(key) != right.get(key)]


def test_every_kind_of_object_comes_back(space: Room) -> None:
    assert space.apply(varied()) == 2
    assert differences(space.kernel.observe(), varied()) == []
    assert space.apply(varied()) == 0


def test_nothing_there_is_read_as_nothing(space: Room) -> None:
    assert space.kernel.observe() == Ruleset()
    space.nft("add table ip stockade")
    space.nft("add table inet other")
    assert space.kernel.observe() == Ruleset()


def test_everything_goes_and_foreign_tables_stay(space: Room) -> None:
    space.nft("add table inet foreign { chain c { type filter hook forward priority 0; }; }")
    before = space.run("nft", "list", "table", "inet", "foreign").stdout
    space.apply(varied())
    space.apply(Ruleset())
    assert space.kernel.observe() == Ruleset()
    assert space.run("nft", "list", "table", "inet", "foreign").stdout == before != ""


@pytest.mark.parametrize("seed", range(12))
def test_compiled_worlds_come_back(space: Room, seed: int) -> None:
    for intent in compile_snapshot(world(seed)).values():
        wanted = render(intent)
        space.apply(wanted)
        assert differences(space.kernel.observe(), in_memory(wanted)) == []


def test_one_world_becomes_the_next_as_in_memory(space: Room) -> None:
    """The real kernel takes every transition that the one in memory takes, and ends as it does."""
    for before, after in pairwise(range(20, 40)):
        for seed in (before, after):
            intents = compile_snapshot(world(seed))
            wanted = render(intents[min(intents)])
            space.apply(wanted)
            assert differences(space.kernel.observe(), in_memory(wanted)) == [], f"seeds {before} {after}"


def test_chains_that_came_with_a_newer_version_are_added_to_what_an_older_one_left(space: Room) -> None:
    intents = compile_snapshot(world(3))
    wanted = render(intents[min(intents)])
    older = Ruleset(tuple(msgspec.structs.replace(each, chains=_without_answers(each)) for each in wanted.tables))
    assert older != wanted
    space.apply(older)
    assert differences(space.kernel.observe(), in_memory(older)) == []
    assert space.apply(wanted)
    assert differences(space.kernel.observe(), in_memory(wanted)) == []


def _without_answers(table: Table) -> dict[str, Chain]:
    return {name: chain for name, chain in table.chains.items() if not name.startswith("answered")}


def in_memory(wanted: Ruleset) -> Ruleset:
    kernel = FakeKernel(strict=True)
    Room.apply(None, wanted, kernel)
    return kernel.observe()


def test_random_intervals_replace_each_other(space: Room) -> None:
    """Prefixes that contain, touch or continue what they replace."""
    random = Random(7)
    for _ in range(60):
        wanted = Ruleset((Table("inet", sets={"nets": intervals(random, 4), "nets6": intervals(random, 6)}),))
        space.apply(wanted)
        assert space.kernel.observe() == wanted


def intervals(random: Random, family: int) -> ElementSet:
    """Disjoint prefixes and addresses in a small space, often adjacent."""
    found, at = set(), 0
    while at < 256:
        width = random.choice([1, 2, 4, 8, 16, 32])
        if at % width == 0 and at + width <= 256:
            if random.random() < 0.5:
                bits = width.bit_length() - 1
                whole, base = (
                    (32, f"10.0.0.{at}") if family == 4 else (128, f"2001:db8::{at:x}" if at else "2001:db8::")
                )
                found.add(base if bits == 0 else f"{base}/{whole - bits}")
            at += width
    kind = "ipv4_addr" if family == 4 else "ipv6_addr"
    return ElementSet(kind, flags=("interval",), elements=frozenset(found))


def test_a_declaration_that_differs_is_replaced_under_its_users(space: Room) -> None:
    """In one transaction, and the chain that looks at it keeps its name and its hook."""

    def with_set(declared: ElementSet) -> Ruleset:
        chains = {
            "forward": Chain(FORWARD, (rule("ip saddr @peers goto web"), rule("ip saddr vmap @ways"), rule("drop"))),
            "web": Chain("", (rule("accept"),)),
        }
        ways = ElementSet("ipv4_addr", data="verdict", elements=frozenset({"10.0.0.1 : goto web"}))
        return Ruleset((Table("inet", sets={"peers": declared, "ways": ways}, chains=chains),))

    exact = ElementSet("ipv4_addr", elements=frozenset({"10.0.0.1"}))
    ranged = ElementSet("ipv4_addr", flags=("interval",), comment="wide", elements=frozenset({"10.0.0.0/24"}))
    for declared in (exact, ranged, exact):
        space.apply(with_set(declared))
        assert differences(space.kernel.observe(), with_set(declared)) == []


def test_a_chain_takes_another_hook_or_loses_it(space: Room) -> None:
    def with_hook(hook: str) -> Ruleset:
        leads = () if hook else (rule("goto moving"),)
        chains = {"moving": Chain(hook, (rule("accept"),)), "user": Chain("", leads)}
        return Ruleset((Table("inet", chains=chains),))

    for hook in (FORWARD, FORWARD.replace("-5", "-6"), "", FORWARD.replace("forward", "input"), ""):
        space.apply(with_hook(hook))
        assert differences(space.kernel.observe(), with_hook(hook)) == []
        assert settled(with_hook(hook), space.kernel.observe())
