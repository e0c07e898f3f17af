"""What tests of the package share: the packages."""

import subprocess
from pathlib import Path

import pytest
from debian import ROOT, why_not


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two packages of this checkout, built independently; the second is the newer one."""
    if reason := why_not():
        pytest.skip(f"this machine: {reason}")
    folder = tmp_path_factory.mktemp("packages")
    building = [
        subprocess.Popen(
            [ROOT / "scripts" / "build-deb", "--revision", number, "--out", folder], stdout=subprocess.PIPE, text=True
        )
        for number in ("1", "2")
    ]
    one, two = (Path(each.communicate(timeout=600)[0].strip()) for each in building)
    assert not any(each.returncode for each in building)
    return one, two
