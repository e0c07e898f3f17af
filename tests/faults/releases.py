"""Other versions of Stockade, each built into a wheel and installed, with what its lock says, in an environment apart.

``before`` is the release before this one where the history holds it: the newest tag before this commit, or, as long as
there is none, ``BASE``. ``other`` is made from this checkout, so any checkout can make it, a shallow one as well. It
differs from this version in all that releases may differ in where one meets what another has left behind: no rule,
chain or set that is named by its content is named alike, hooks have other priorities, the tables' layout, the wire
protocol (so that the assignment that was kept is not understood) and the helper are other ones.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from debian import ROOT

BASE = "35a69495aa7da348aab0a516d020797ec896b5f8"
COPIED = ("src", "examples", "pyproject.toml", "hatch_build.py", "uv.lock", "README.md", "LICENSE")
EDITS = (
    ("src/stockade/__init__.py", '__version__ = "', '__version__ = "1!'),
    ("src/stockade/wire/__init__.py", "\nPROTOCOL = 1\n", "\nPROTOCOL = 1001\n"),
    ("src/stockade/core/compile/nft/inet.py", "stockade layout 1", "stockade layout 1001"),
    ("src/stockade/core/compile/nft/inet.py", "hook {} priority -5;", "hook {} priority -6;"),
    ("src/stockade/core/compile/nft/bridge.py", "hook postrouting priority 300;", "hook postrouting priority 301;"),
    ("src/stockade/core/compile/text.py", "blake2b(data, ", 'blake2b(data, person=b"other", '),
    ("src/stockade/nfthelper/holding.py", "\nVERSION = 1\n", "\nVERSION = 1001\n"),
)


def releases() -> dict[str, Callable[[Path], Path]]:
    """Return the versions that can be made here, each by what writes its sources into a folder."""
    found: dict[str, Callable[[Path], None]] = {"other": _other}
    if commit := _before():
        found["before"] = lambda folder: _archived(commit, folder)
    return {name: _built_from(write) for name, write in found.items()}


def _built_from(write: Callable[[Path], None]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        """Build and install it under a folder; return its interpreter."""
        sources, environment = folder / "sources", folder / "environment"
        sources.mkdir(parents=True)
        write(sources)
        _run(
            [_uv(), "sync", "--quiet", "--locked", "--no-dev", "--no-editable", "--python", sys.executable],
            cwd=sources,
            UV_PROJECT_ENVIRONMENT=str(environment),
        )
        return environment / "bin" / "python"

    return build


def _other(folder: Path) -> None:
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    for name, old, new in EDITS:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text, f"{name} no longer says {old!r}: what is to be different there?"
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")


def _archived(commit: str, folder: Path) -> None:
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x"], input=packed.stdout, cwd=folder, check=True)


def _before() -> str:
    """Return the commit of the release before; empty where this history does not hold it."""
    tag = _said("git", "describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
    return tag or (BASE if _said("git", "cat-file", "-t", BASE) == "commit" else "")


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _uv() -> str:
    places = (ROOT / ".tools/bin/uv", Path(sys.executable).parent / "uv")
    found = next((str(each) for each in places if each.exists()), shutil.which("uv"))
    assert found, "uv is part of the environment that `make setup` makes"
    return found


def _run(command: list[str], cwd: Path, **more: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))}
    trusted = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}  # what this machine trusts
    done = subprocess.run(
        command, cwd=cwd, env={**trusted, **kept, **more}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
