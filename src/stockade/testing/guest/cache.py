"""Where what is slow to make is kept: outside the checkout, keyed by version, made whole or not at all."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from stockade.errors import StockadeError

LONGEST = 900
"""Seconds that one command which makes something may take."""


def folder() -> Path:
    """Return the cache folder: ``STOCKADE_CACHE``, else the user's."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("STOCKADE_CACHE") or home / "stockade") / "guest"


def made(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached file or folder of a name; where there is none, have ``make`` write it, and say so.

    Two processes never make the same thing, and a thing half made is never found.
    """
    place = folder() / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        return place
    with (place.parent / f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            sys.stderr.write(f"guest: making {place}\n")
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=".making-") as scratch:
                result = Path(scratch) / place.name
                make(result)
                result.rename(place)
    return place


def call(*words: str | Path, **environment: str) -> str:
    """Run a program and return what it says; raise with its last words where it fails."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            list(map(str, words)),
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
            env={**os.environ, "PATH": path, "LC_ALL": "C", **environment},
        )
    except OSError as problem:
        raise StockadeError(f"{words[0]} does not run: {problem.strerror}", remedy="make setup") from problem
    if done.returncode:
        raise StockadeError(
            f"{' '.join(map(str, words[:3]))} failed: {done.stderr.strip()[-400:]}", kept="nothing was kept of it"
        )
    return done.stdout


def find(name: str) -> Path:
    """Return a program of this machine."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise StockadeError(f"{name} is not installed", remedy="make setup")
    return Path(found)


def forget(paths: Sequence[Path]) -> None:
    """Remove files that may be gone already."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
