"""Several sources, in any order, with all that goes wrong on the way: no workload is lost, doubled or confused.

What a host's sources say is expanded: shuffled among the sources, repeated, listed instead of told, with sources that
are lost and come back between. Whatever the way there, the inventory is what the last words plainly merge to.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from stockade.agent.inventory import Inventory
from stockade.agent.merging import Merging, merge
from stockade.core.model.census import DELAY_BOUNDS
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Sighting, WorkloadKind, WorkloadState
from stockade.seams.runtime import Gone, Listed, Lost, RuntimeEvent, Seen

SOURCES = ("docker", "containerd", "namespaces")
Word = tuple[str, RuntimeEvent]
Said = dict[str, dict[WorkloadId, Seen]]


def place(port: str, address: str) -> Endpoint:
    return Endpoint(Attachment.BRIDGED, (address,), port, "docker0", "02:42:ac:11:00:02", "h/docker0")


def seen(id_: str, *marks: str, name: str = "", at: float = 1.0, **more: object) -> Seen:
    return Seen(Sighting(WorkloadId(id_), name or id_, WorkloadKind.CONTAINER, **more), at, marks=marks)


class Life(NamedTuple):
    """What each source says of one workload over time; ``ends``: whether it is gone in the end."""

    words: tuple[Word, ...]
    called: str
    ends: bool = False


def by_all(number: int, cookie: int, address: str, *, pid: int, ends: bool = False) -> Life:
    """A container that an engine, the runtime below it and the kernel see: its pid and its address may be another's."""
    spot = place(f"veth{cookie}", address)
    container, netns = f"container:{number}", f"netns:{cookie}"
    words: list[Word] = [
        ("docker", seen(f"docker:{number}", container, state=WorkloadState.CREATED)),
        ("containerd", seen(f"containerd:{number}", container, netns, name=f"pid-{pid}")),
        ("namespaces", seen(f"netns:{cookie}", netns, name=f"pid-{pid}", endpoints=(spot,))),
        ("docker", seen(f"docker:{number}", container, netns, endpoints=(spot,))),
        ("docker", seen(f"docker:{number}", container, netns, name="renamed", endpoints=(spot,))),
    ]
    if ends:
        words += [
            ("containerd", Gone(WorkloadId(f"containerd:{number}"), 9.0)),
            ("docker", seen(f"docker:{number}", container, name="renamed", state=WorkloadState.STOPPED)),
            ("namespaces", Gone(WorkloadId(f"netns:{cookie}"), 9.0)),
            ("docker", Gone(WorkloadId(f"docker:{number}"), 9.0)),
        ]
    return Life(tuple(words), f"docker:{number}", ends)


def restarted(number: int, before: int, after: int, address: str) -> Life:
    """A container that ends and begins anew: its id stays, its network namespace is another."""
    container = f"container:{number}"
    words: list[Word] = [
        (
            "docker",
            seen(f"docker:{number}", container, f"netns:{before}", endpoints=(place(f"veth{before}", address),)),
        ),
        ("namespaces", seen(f"netns:{before}", f"netns:{before}", endpoints=(place(f"veth{before}", address),))),
        ("namespaces", Gone(WorkloadId(f"netns:{before}"), 5.0)),
        ("docker", seen(f"docker:{number}", container, state=WorkloadState.STOPPED)),
        ("docker", seen(f"docker:{number}", container, f"netns:{after}", endpoints=(place(f"veth{after}", address),))),
        ("namespaces", seen(f"netns:{after}", f"netns:{after}", endpoints=(place(f"veth{after}", address),))),
    ]
    return Life(tuple(words), f"docker:{number}")


def alone(cookie: int, address: str) -> Life:
    """A namespace that nobody but the kernel tells of."""
    word = seen(f"netns:{cookie}", f"netns:{cookie}", endpoints=(place(f"veth{cookie}", address),))
    return Life((("namespaces", word),), f"netns:{cookie}")


LIVES = {
    "two containers": (by_all(1, 11, "10.0.0.1", pid=70), by_all(2, 12, "10.0.0.2", pid=71)),
    "an address and a pid are given on": (
        by_all(1, 11, "10.0.0.1", pid=70, ends=True),
        by_all(2, 12, "10.0.0.1", pid=70),
    ),
    "an address is another's while its old owner still ends": (
        by_all(1, 11, "10.0.0.1", pid=70, ends=True),
        alone(13, "10.0.0.1"),
    ),
    "a restart beside somebody whom nobody knows": (restarted(1, 11, 14, "10.0.0.1"), alone(13, "10.0.0.9")),
    "a namespace ends, and one that got its inode begins": (
        by_all(1, 11, "10.0.0.1", pid=70, ends=True),
        restarted(2, 12, 15, "10.0.0.2"),
        alone(16, "10.0.0.1"),
    ),
}


def interleaved(lives: Sequence[Life], random: Random) -> list[Word]:
    """Put all words in one order that keeps each source's own: sources are independent, a source is one stream."""
    streams = [[word for life in lives for word in life.words if word[0] == source] for source in SOURCES]
    told: list[Word] = []
    while any(streams):
        told.append(random.choice([stream for stream in streams if stream]).pop(0))
    return told


def last_words(words: Sequence[Word]) -> Said:
    said: Said = {}
    for source, event in words:
        known = said.setdefault(source, {})
        if isinstance(event, Seen):
            known[event.sighting.id] = event
        elif isinstance(event, Gone):
            known.pop(event.id, None)
        elif isinstance(event, Listed):
            said[source] = {each.sighting.id: each for each in event.seen}
    return said


def as_told(words: Sequence[Word], _: Random) -> Iterator[Word]:
    yield from words


def repeated(words: Sequence[Word], _: Random) -> Iterator[Word]:
    for word in words:
        yield word
        yield word


def lost_and_back(words: Sequence[Word], random: Random) -> Iterator[Word]:
    """Sources are lost now and then, miss what is said meanwhile, and list everything when they are back."""
    before: list[Word] = []
    away: set[str] = set()
    for word in words:
        before.append(word)
        source = word[0]
        if source not in away:
            yield word
        if random.random() < 0.4:
            if source in away:
                away.discard(source)
                yield source, Listed(tuple(last_words(before).get(source, {}).values()))
            else:
                away.add(source)
                yield source, Lost("it hangs")
    for source in sorted(away):
        yield source, Listed(tuple(last_words(before).get(source, {}).values()))


def listed_at_the_end(words: Sequence[Word], _: Random) -> Iterator[Word]:
    """Every source lost all its words but the last listing."""
    for source, known in sorted(last_words(words).items()):
        yield source, Listed(tuple(known.values()))


WAYS: dict[str, Callable[[Sequence[Word], Random], Iterator[Word]]] = {
    each.__name__: each for each in (as_told, repeated, lost_and_back, listed_at_the_end)
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lives", LIVES)
@pytest.mark.parametrize("seed", range(8))
def test_every_way_there_ends_in_the_same(lives: str, way: str, seed: int) -> None:
    random = Random(seed)
    words = interleaved(LIVES[lives], random)
    inventory = Inventory()
    now = 1000.0
    for source, event in WAYS[way](words, random):
        now += random.choice((0.1, -3600.0, 86400.0))  # clocks jump
        inventory.hear(source, event, now)
        ids = [each.id for each in inventory.sightings()]
        assert len(ids) == len(set(ids))
    assert {each.id: each for each in inventory.sightings()} == merge(last_words(words))
    called = [life.called for life in LIVES[lives] if not life.ends]
    assert [each.id for each in inventory.sightings()] == sorted(called)
    assert all(each.endpoints for each in inventory.sightings())


@pytest.mark.parametrize("seed", range(40))
def test_what_is_kept_word_by_word_is_what_all_words_merge_to(seed: int) -> None:
    """Marks are few, so that groups join and part all the time."""
    random = Random(seed)
    merging, said = Merging(), dict[str, dict[WorkloadId, Seen]]()
    for _ in range(120):
        source = random.choice((*SOURCES, "gate"))
        id_ = WorkloadId(f"{random.choice((source, 'shared'))}:{random.randrange(6)}")
        if random.random() < 0.3:
            said.setdefault(source, {}).pop(id_, None)
            merging.drop(source, id_)
        else:
            marks = [f"netns:{random.randrange(8)}" for _ in range(random.randrange(3))]
            ends = tuple(place(f"veth{random.randrange(8)}", "10.0.0.1") for _ in range(random.randrange(2)))
            word = seen(id_, *marks, endpoints=ends, state=random.choice(list(WorkloadState)))
            said.setdefault(source, {})[id_] = word
            merging.put(source, word)
        assert merging.merged == merge(said)


def test_who_bears_a_mark_is_the_one_that_speaks() -> None:
    inventory = Inventory()
    inventory.hear("namespaces", Listed((seen("netns:11", "netns:11", endpoints=(place("veth1", "10.0.0.1"),)),)), 5.0)
    assert inventory.bearer("netns:11") == "netns:11"
    inventory.hear("docker", Listed((seen("docker:1", "container:1", "netns:11"),)), 6.0)
    assert inventory.bearer("netns:11") == "docker:1"
    assert inventory.bearer("netns:12") is None


# How soon it was told


def test_what_was_there_before_is_no_discovery() -> None:
    inventory = Inventory()
    inventory.hear("docker", Listed((seen("docker:1", at=1.0),)), 1000.0)
    inventory.hear("docker", seen("docker:2", at=1000.0), 1000.25)
    (tally,) = inventory.tallies()
    assert (tally.discovered, tally.p50, tally.p99, tally.delay_sum) == (1, 0.25, 0.25, 0.25)
    assert inventory.heard(WorkloadId("docker:1")) == (("docker", None),)
    assert inventory.heard(WorkloadId("docker:2")) == (("docker", 0.25),)


def test_only_the_first_word_counts_until_a_workload_is_gone() -> None:
    inventory = Inventory()
    inventory.hear("docker", Listed(()), 0.0)
    inventory.hear("docker", seen("docker:1", at=1.0), 1.5)
    inventory.hear("docker", seen("docker:1", name="renamed", at=9.0), 20.0)
    assert inventory.tallies()[0].discovered == 1
    inventory.hear("docker", Gone(WorkloadId("docker:1"), 21.0), 21.0)
    inventory.hear("docker", seen("docker:1", at=22.0), 23.0)
    assert (inventory.tallies()[0].discovered, inventory.tallies()[0].delay_sum) == (2, 1.5)


def test_what_was_missed_while_a_source_was_away_counts_with_its_whole_delay() -> None:
    inventory = Inventory()
    inventory.hear("docker", Listed(()), 0.0)
    inventory.hear("docker", Lost("it hangs"), 1.0)
    assert inventory.tallies()[0].lost == "it hangs"
    inventory.hear("docker", Listed((seen("docker:1", at=2.0),)), 42.0)
    (tally,) = inventory.tallies()
    assert (tally.p99, tally.interrupted, tally.lost) == (40.0, 1, "")
    assert tally.buckets == (0,) * len(DELAY_BOUNDS) + (1,)


def test_a_delay_below_zero_is_not_known() -> None:
    inventory = Inventory()
    inventory.hear("docker", Listed(()), 100.0)
    inventory.hear("docker", seen("docker:1", at=100.0), 50.0)
    assert inventory.tallies()[0].discovered == 0
    assert inventory.heard(WorkloadId("docker:1")) == (("docker", None),)


def test_each_source_has_its_own_delay_of_one_workload() -> None:
    inventory = Inventory()
    for source in ("docker", "namespaces"):
        inventory.hear(source, Listed(()), 0.0)
    inventory.hear("docker", seen("docker:1", "netns:11", at=1.0), 1.25)
    inventory.hear("namespaces", seen("netns:11", "netns:11", at=1.0), 1.5)
    assert inventory.heard(WorkloadId("docker:1")) == (("docker", 0.25), ("namespaces", 0.5))


def test_a_workload_that_did_not_change_is_one_and_the_same_event() -> None:
    inventory = Inventory()
    inventory.hear("docker", Listed((seen("docker:1"), seen("docker:2"))), 0.0)
    before = inventory.truth()
    inventory.hear("docker", replace(seen("docker:2"), published=()), 1.0)
    inventory.hear("docker", seen("docker:3"), 1.0)
    after = inventory.truth()
    assert all(after[key] is before[key] for key in before)
    assert set(after) - set(before) == {"workload docker:3"}
