"""The wheel alone, in an empty environment outside the checkout, does the main job."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"console.css", "console.js", "map.css", "map.js", "map-graph.js", "map-layout.js"}
THIRD = {"htmx.min.js", "sigma.min.js", "graphology.umd.min.js", "forceatlas2.js"}
SCRIPTS = Path(sys.executable).parent


def uv() -> str:
    found = next((str(each) for each in (SCRIPTS / "uv", ROOT / ".tools/bin/uv") if each.exists()), shutil.which("uv"))
    assert found, "uv is part of the environment that `make setup` makes"
    return found


def done(*words: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))}
    ran = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert ran.returncode == 0, ran.stdout[-1500:] + ran.stderr[-1500:]
    return ran.stdout


@pytest.mark.real
@pytest.mark.timeout(300)
def test_the_wheel_runs_the_demo_outside_the_checkout(tmp_path: Path) -> None:
    done(uv(), "build", "--quiet", "--wheel", "--out-dir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "empty", symlinks=True, with_pip=False)
    python = tmp_path / "empty/bin/python"
    done(uv(), "pip", "install", "--quiet", "--python", python, wheel, cwd=tmp_path)
    served = done(python, "-c", "from stockade.web.assets import assets; print(*assets())", cwd=tmp_path).split()
    assert set(served) >= OURS | THIRD
    told = done(tmp_path / "empty/bin/stockade", "demo", "--once", "-o", "json", cwd=tmp_path)
    summary = json.loads(told.splitlines()[-1])
    assert (summary["mismatches"], summary["leaked"]) == (0, 0)
    assert summary["probes"] > 1000
