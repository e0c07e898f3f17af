"""The kernel in memory refuses what the real one refuses, and does what the real one does."""

import itertools
from collections.abc import Iterator
from random import Random

import pytest
from nft_rooms import Room, room

from stockade.core.compile.nft.ruleset import Ruleset, rule_comment
from stockade.seams.kernel import KernelRefused
from stockade.testing.kernel import FakeKernel

pytestmark = pytest.mark.real
SETS = ("plain", "ranges", "ways", "seen")
CHAINS = ("base", "one", "two", "three")
BASE = "{ type filter hook forward priority -5; policy accept;\n}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with room(tmp_path_factory.mktemp("nft")) as made:
        yield made


def command(random: Random, number: int) -> str:
    """One command, sensible or not."""
    at = "inet stockade"
    name, chain, other = random.choice(SETS), random.choice(CHAINS), random.choice(CHAINS)
    prefix = random.choice(["10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/25", "10.0.0.7", "10.0.1.0-10.0.1.9"])
    address = random.choice(["10.0.0.1", "10.0.0.2"])
    statement = random.choice(
        [
            "drop",
            f"goto {other}",
            f"jump {other}",
            f"ip saddr @{random.choice(SETS[:2])} accept",
            "ip saddr vmap @ways",
            f"th dport vmap {{ 80 : goto {other}, 443 : drop }}",
            f"counter name {random.choice('kl')} accept",
            "update @seen { ip saddr timeout 10s }",
        ]
    )
    return random.choice(
        [
            f"add counter {at} {random.choice('kl')}",
            f"delete counter {at} {random.choice('kl')}",
            f"add set {at} plain {{ type ipv4_addr\n}}",
            f"add set {at} plain {{ type ipv4_addr; flags interval\n}}",
            f"add set {at} ranges {{ type ipv4_addr; flags interval\n}}",
            f"add set {at} seen {{ type ipv4_addr; flags dynamic,timeout\n}}",
            f"add map {at} ways {{ type ipv4_addr : verdict\n}}",
            f"delete {'map' if name == 'ways' else 'set'} {at} {name}",
            f"flush {'map' if name == 'ways' else 'set'} {at} {name}",
            f"add element {at} plain {{ {address} }}",
            f"delete element {at} plain {{ {address} }}",
            f"add element {at} ranges {{ {prefix} }}",
            f"add element {at} ways {{ {address} : goto {other} }}",
            f"add element {at} ways {{ {address} : drop }}",
            f"delete element {at} ways {{ {address} }}",
            f"add chain {at} base {BASE}" if chain == "base" else f"add chain {at} {chain}",
            f"add chain {at} {other}",
            f"flush chain {at} {chain}",
            f"delete chain {at} {chain}",
            f'add rule {at} {chain} {statement} comment "n{number}"',
            f'add rule {at} {chain} {statement} comment "n{number}"',
        ]
    )


def shape(ruleset: Ruleset) -> list[object]:
    return [
        (
            table.family,
            dict(table.sets),
            table.counters,
            {n: (c.hook, tuple(map(rule_comment, c.rules))) for n, c in table.chains.items()},
        )
        for table in ruleset.tables
    ]


def complaint(kernel: object, batch: str) -> str:
    """Commit; return why it was refused, or nothing."""
    try:
        kernel.commit(batch)
    except KernelRefused as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize("seed", range(8))
def test_both_take_the_same_transactions(shared: Room, seed: int) -> None:
    """Commands one by one and in twos and threes, until a few hundred have been tried; then the contents are equal."""
    random = Random(seed)
    real, fake = shared.kernel, FakeKernel()
    complaint(real, "delete table inet stockade\n")
    for kernel in (real, fake):
        kernel.commit("add table inet stockade\n")
    numbers = itertools.count()
    taken = refused = 0
    for _ in range(220):
        batch = "".join(f"{command(random, next(numbers))}\n" for _ in range(random.choice([1, 1, 1, 2, 3])))
        theirs, ours = complaint(real, batch), complaint(fake, batch)
        assert bool(theirs) == bool(ours), f"seed {seed}\n{batch}kernel: {theirs}\nin memory: {ours}"
        taken, refused = taken + (not theirs), refused + bool(theirs)
        assert shape(fake.observe()) == shape(real.observe()), f"seed {seed}: {batch}"
    assert min(taken, refused) > 40
