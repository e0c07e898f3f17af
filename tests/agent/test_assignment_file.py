"""The last assignment on disk: the newest, or the one before it where the disk takes no other; never half of one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.agent.state import AssignmentFile
from stockade.core.model.ids import HostId, Revision, Version
from stockade.core.model.intent import Intent
from stockade.core.model.policy import Births
from stockade.testing.chaos.disk import Disk, disk
from stockade.testing.lab.entry import able
from stockade.wire import PROTOCOL, Assignment


def kept(version: int) -> Assignment:
    intent = Intent(HostId("h"), Revision(version), Version(version), Births.PASS, fingerprint=f"f{version}")
    return Assignment(intent, PROTOCOL)


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Disk]:
    if not able():
        pytest.skip("this machine: not root, no disk can be mounted")
    with disk(tmp_path) as found:
        if found is None:
            pytest.skip("this machine: no loop device with ext4 can be mounted")
        yield found


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    file = AssignmentFile(tmp_path)
    assert file.read() is None
    file.write(kept(1))
    file.write(kept(2))
    assert file.read() == kept(2)


@pytest.mark.real
@pytest.mark.fault
def test_on_a_full_disk_the_one_before_stays(ours: Disk) -> None:
    file = AssignmentFile(ours.path)
    file.write(kept(1))
    ours.fill()
    with pytest.raises(OSError, match="No space"):
        file.write(kept(2))
    assert file.read() == kept(1)
    assert [each.name for each in ours.path.iterdir() if each.name.startswith("assignment")] == ["assignment"]


@pytest.mark.real
@pytest.mark.fault
def test_where_nothing_can_be_made_the_one_before_stays(ours: Disk) -> None:
    file = AssignmentFile(ours.path)
    file.write(kept(1))
    ours.lock(ours.path)
    try:
        with pytest.raises(OSError, match="not permitted"):
            file.write(kept(2))
        assert file.read() == kept(1)
    finally:
        ours.unlock(ours.path)
    file.write(kept(3))
    assert file.read() == kept(3)


def test_where_it_cannot_be_removed_nothing_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AssignmentFile(tmp_path)
    file.write(kept(1))
    monkeypatch.setattr(Path, "unlink", _refused)
    file.remove()
    assert file.there()
    assert file.read() is None


def _refused(path: Path, *, missing_ok: bool = False) -> None:
    raise PermissionError(1, "Operation not permitted", str(path), missing_ok)
