"""What the map drafts does what it says: closed is closed whatever allows it, allowed is that and nothing more."""

from pathlib import Path

import pytest
from bench.world import world

from stockade.core import policy as documents
from stockade.core.graph.judge import Judge
from stockade.core.model.net import Ports, Protocol
from stockade.core.model.policy import EnforcementMode, Mode, Networks, PolicySet, Selected
from stockade.core.model.selector import ALL, Equal
from stockade.core.model.snapshot import Snapshot
from stockade.core.policy import complete
from stockade.core.policy.nodes import SourceText
from stockade.core.suggest.suggest import drafted
from stockade.core.suggest.turning import closing, opening

ONE, OTHER = Selected(Equal("d00", "v0")), Selected(Equal("d00", "v1"))
ODD = Selected(Equal("a", "x y\n\"'"))
HTTP = (Ports(Protocol.TCP, 80, 80),)


def under(mode: Mode | None) -> Snapshot:
    modes = (EnforcementMode("every", ALL, mode, 5),) if mode else ()
    return world(60, 10)._replace(policy=complete(PolicySet(modes=modes)))


def allowed(snapshot: Snapshot, port: int, *, back: bool = False) -> bool:
    """Whether a workload of the one may open a connection to one of the other."""
    judge = Judge(snapshot)
    one, other = (
        next(each for _, each in sorted(snapshot.workloads.items()) if each.labels.get("d00") == value)
        for value in ("v0", "v1")
    )
    ends = (judge.party_of(other), judge.party_of(one)) if back else (judge.party_of(one), judge.party_of(other))
    return judge.between(*ends, int(Protocol.TCP), port).allowed


@pytest.mark.parametrize("mode", [None, Mode.IDLE, Mode.VISIBILITY, Mode.SELECTIVE])
def test_what_is_closed_is_denied_in_any_mode(mode: Mode | None) -> None:
    snapshot = under(mode)
    assert allowed(snapshot, 80)
    made = closing(snapshot, ONE, OTHER, HTTP)
    after = drafted(snapshot, made.policy)
    assert not allowed(after, 80)
    assert allowed(after, 81)
    assert allowed(after, 80, back=True)
    assert bool(made.policy.modes) == (mode is not Mode.SELECTIVE)


def test_what_a_rule_allows_is_closed_all_the_same() -> None:
    snapshot = drafted(under(Mode.FULL), opening(ONE, OTHER, ()).policy)
    assert allowed(snapshot, 80)
    made = closing(snapshot, ONE, OTHER, HTTP)
    assert not made.policy.modes, "in mode full a denial counts as it is"
    assert not allowed(drafted(snapshot, made.policy), 80)
    assert allowed(drafted(snapshot, made.policy), 81)


def test_what_is_allowed_is_that_and_no_more() -> None:
    snapshot = under(Mode.FULL)
    assert not allowed(snapshot, 80)
    after = drafted(snapshot, opening(ONE, OTHER, HTTP).policy)
    assert allowed(after, 80)
    assert not allowed(after, 81)
    assert not allowed(after, 80, back=True)


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (ONE, OTHER),
        (ONE, Networks(("world",))),
        (Networks(("private",)), OTHER),
        (Selected(Equal("a", "x y\n\"'")), OTHER),
    ],
)
def test_its_text_is_a_file_that_reads_as_it_was_meant(source: object, destination: object, tmp_path: Path) -> None:
    for made in (
        closing(under(None), source, destination, HTTP),  # type: ignore[arg-type]
        opening(source, destination, ()),  # type: ignore[arg-type]
    ):
        read = documents.read([SourceText(f"{tmp_path}/{made.name}.yaml", made.text.encode())])
        assert read.problems == ()
        assert [each.name for each in read.policy.policies] == [made.name]
        assert read.policy.policies[0].rules[0].source == source
        assert read.policy.policies[0].rules[0].destination == destination
