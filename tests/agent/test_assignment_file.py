"""The last assignment on disk: the newest or none, never one that is older than what the kernel holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.agent.state import AssignmentFile, Kept
from stockade.core.model.ids import HostId, Revision, Version
from stockade.core.model.intent import Intent
from stockade.core.model.policy import Births
from stockade.testing.chaos.disk import Disk, disk
from stockade.testing.lab.entry import able
from stockade.wire import PROTOCOL, Assignment


def kept(version: int) -> Kept:
    intent = Intent(HostId("h"), Revision(version), Version(version), Births.PASS, fingerprint=f"f{version}")
    return Kept(Assignment(intent, PROTOCOL))


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Disk]:
    if not able():
        pytest.skip("not root: no disk can be mounted")
    with disk(tmp_path) as found:
        if found is None:
            pytest.skip("no loop device with ext4 can be mounted here")
        yield found


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    file = AssignmentFile(tmp_path)
    assert file.read() is None
    file.write(kept(1))
    file.write(kept(2))
    assert file.read() == kept(2)


@pytest.mark.real
@pytest.mark.fault
def test_on_a_full_disk_there_is_none(ours: Disk) -> None:
    file = AssignmentFile(ours.path)
    file.write(kept(1))
    ours.fill()
    with pytest.raises(OSError, match="No space"):
        file.write(kept(2))
    assert file.read() is None


@pytest.mark.real
@pytest.mark.fault
def test_where_nothing_can_be_removed_there_is_none_either(ours: Disk) -> None:
    file = AssignmentFile(ours.path)
    file.write(kept(1))
    ours.lock(ours.path)
    try:
        with pytest.raises(OSError, match="not permitted"):
            file.write(kept(2))
        assert file.read() is None
    finally:
        ours.unlock(ours.path)
    file.write(kept(3))
    assert file.read() == kept(3)
