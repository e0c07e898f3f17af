"""What the compiler writes for nft, kept whole so that a change of it is read as a diff.

Each golden is named after its story in ``stockade.testing.scenarios``. ``pytest --snapshot-update`` writes them anew;
read what it changed.
"""

import re
from random import Random

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from syrupy.location import PyTestLocation
from syrupy.types import SnapshotIndex

from stockade.core.compile.compiler import compile_snapshot
from stockade.core.compile.nft.render import render
from stockade.core.compile.nft.ruleset import Ruleset
from stockade.core.fold import fold
from stockade.core.model.snapshot import Snapshot
from stockade.core.reconcile import steps, text
from stockade.testing.scenarios import SCENARIOS

CHOSEN = ("a shop under policy", "everything at once", "a quarantine falls, lapses, and falls again")


class NftFile(SingleFileSnapshotExtension):
    """One file a golden, as nft takes it."""

    _write_mode = WriteMode.TEXT
    file_extension = "nft"

    @classmethod
    def get_snapshot_name(cls, *, test_location: PyTestLocation, index: SnapshotIndex = 0) -> str:  # noqa: ARG003
        """The story's name alone."""
        return "-".join(re.findall(r"\w+", str(index)))


def written(snapshot: Snapshot) -> str:
    """Every host's program from nothing, in the order in which it is made."""
    return "\n".join(
        f"# {host}, step {number}\n{text(step)}"
        for host, intent in compile_snapshot(snapshot).items()
        for number, step in enumerate(steps(render(intent), Ruleset()), start=1)
    )


@pytest.mark.parametrize("story", CHOSEN)
def test_nft_text(story: str, snapshot: SnapshotAssertion) -> None:
    assert written(fold(SCENARIOS[story])) == snapshot(extension_class=NftFile, name=story)


@pytest.mark.parametrize("story", SCENARIOS)
def test_the_same_snapshot_has_the_same_bytes(story: str) -> None:
    """In whatever order its workloads, hosts and documents came to be known."""
    folded = fold(SCENARIOS[story])
    dice = Random(1)
    assert written(_shuffled(folded, dice)) == written(folded)


def _shuffled(folded: Snapshot, dice: Random) -> Snapshot:
    workloads, hosts = list(folded.workloads.items()), list(folded.hosts.items())
    dice.shuffle(workloads)
    dice.shuffle(hosts)
    return folded._replace(workloads=dict(workloads), hosts=dict(hosts))
