"""Disk images for guests: made from folders by mke2fs, each a layer of the root that a guest sees.

``programs`` holds what a guest needs to run Stockade: this machine's Python, the packages of ``.venv``, nft, ip and
their like with the libraries that they load, and busybox for the rest. ``checkout`` holds the code that is tried.
Paths are the same inside and outside.
"""

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from stockade.testing.guest import cache
from stockade.testing.guest.kernels import Kernel

PROGRAMS = (
    "bash", "bridge", "conntrack", "ip", "kmod", "nft", "nsenter", "ps", "setpriv", "sh", "ss", "sysctl", "tc",
    "unshare",
)  # fmt: skip
KMOD = ("depmod", "insmod", "lsmod", "modinfo", "modprobe", "rmmod")
FACTS = ("etc/group", "etc/hosts", "etc/nsswitch.conf", "etc/passwd", "etc/protocols", "etc/services")
FOLDERS = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/local/bin", "var/lib", "var/log", "var/run")
MERGED = ("bin", "lib", "lib64", "sbin")
UNUSED = (
    "*mypyc*", "ast_serialize", "ensurepip", "grimp*", "idlelib", "importlinter", "lib2to3", "librt", "mypy*", "ruff*",
    "test", "tests", "tkinter", "turtledemo", "*.a", "config-*", "dist-packages",
)  # fmt: skip
"""What no guest needs of a Python and its packages: checkers, and tests of other projects."""
ROOM = 32 << 20
LAYOUT = "2"
"""Part of every cached image's name: raised where this module makes them differently."""


def image(folder: Path, result: Path, room: int = ROOM) -> Path:
    """Write a folder as an ext4 image with some room to spare, and return the image."""
    size = sum(each.lstat().st_size + 4096 for each in folder.rglob("*"))
    with result.open("wb") as file:
        file.truncate(size * 11 // 10 + room)
    features = ("-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0", "-N", str(_inodes(folder)))
    cache.call("mke2fs", "-q", "-F", *features, "-d", folder, result)
    return result


def modules(kernel: Kernel) -> Path:
    """Return the image of a kernel's modules, in their place."""
    return cache.made(f"images/modules-{kernel.version}-{LAYOUT}.ext4", lambda path: _modules(kernel, path))


def programs(checkout: Path) -> Path:
    """Return the image of what runs Stockade, for a checkout that has its ``.venv``."""
    return cache.made(f"images/programs-{_fingerprint(checkout)}.ext4", lambda path: _programs(checkout, path))


def checkout(checkout: Path, result: Path) -> Path:
    """Write the code of a checkout as it is now: the package and its tests."""
    with tempfile.TemporaryDirectory(prefix="stockade-checkout-") as stage:
        inner = Path(stage) / checkout.relative_to("/")
        for each in ("src", "tests", "examples"):
            shutil.copytree(checkout / each, inner / each, symlinks=True)
        shutil.copy2(checkout / "pyproject.toml", inner)
        return image(Path(stage), result)


def _inodes(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*")) + 1024


def _modules(kernel: Kernel, result: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="stockade-modules-") as stage:
        place = Path(stage) / "usr" / "lib" / "modules"
        place.mkdir(parents=True)
        shutil.copytree(kernel.modules, place / kernel.version, symlinks=True)
        image(Path(stage), result)


def _fingerprint(checkout: Path) -> str:
    """What the programs' image depends on: where it is used, this Python, the packages, this machine's programs."""
    found = hashlib.sha256(f"{LAYOUT} {checkout} {sys.version} {sys.base_prefix}".encode())
    found.update((checkout / "uv.lock").read_bytes())
    for name in PROGRAMS:
        real = cache.find(name).resolve()
        found.update(f"{real} {real.stat().st_size} {real.stat().st_mtime_ns}".encode())
    return found.hexdigest()[:16]


def _programs(checkout: Path, result: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="stockade-programs-") as scratch:
        stage = Path(scratch)
        _skeleton(stage)
        venv = checkout / ".venv"
        for folder in _python():
            _tree(folder, stage, (*UNUSED, "site-packages"))
        _tree(venv, stage, UNUSED)
        found = [cache.find(name) for name in PROGRAMS]
        for each in found:
            _file(each, stage)
        for name in KMOD:
            (stage / "usr/sbin" / name).symlink_to(
                "kmod" if cache.find("kmod").parent.name == "sbin" else "../bin/kmod"
            )
        _libraries((*(each for each in found), *_extensions(stage, venv)), stage)
        _busybox(stage)
        cache.call(sys.executable, "-m", "compileall", "-q", "-j", "2", *_compiled(stage, venv))
        image(stage, result)


def _skeleton(stage: Path) -> None:
    for each in FOLDERS:
        if each not in MERGED:
            (stage / each).mkdir(parents=True, exist_ok=True)
    for each in MERGED:
        (stage / "usr" / each).mkdir(parents=True, exist_ok=True)
        (stage / each).symlink_to(f"usr/{each}")
    for each in FACTS:
        if (Path("/") / each).exists():
            shutil.copy2(Path("/") / each, stage / each)
    (stage / "etc/hostname").write_text("guest\n", encoding="ascii")


def _place(path: Path, stage: Path) -> Path:
    """Return where a file of this machine stands in the image, its folders' links followed."""
    return stage / str(path.parent.resolve() / path.name).lstrip("/")


def _file(path: Path, stage: Path) -> None:
    """Copy a file and whatever its links lead to."""
    place = _place(path, stage)
    if place.exists() or place.is_symlink():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        place.symlink_to(path.readlink())
        _file(path.parent / path.readlink(), stage)
    else:
        shutil.copy2(path, place)


def _tree(folder: Path, stage: Path, without: Iterable[str]) -> None:
    place = stage / str(folder).lstrip("/")
    shutil.copytree(folder, place, symlinks=True, ignore=shutil.ignore_patterns(*without), dirs_exist_ok=True)


def _python() -> Iterator[Path]:
    """Yield the standard library of this Python; its program follows from the virtual environment's link."""
    base = Path(sys.base_prefix)
    yield base / sys.platlibdir / f"python{sys.version_info.major}.{sys.version_info.minor}"


def _extensions(stage: Path, venv: Path) -> Iterator[Path]:
    """Yield what Python may load: its program, and each compiled module, where they are on this machine."""
    python = venv / "bin" / "python"
    while python.is_symlink():
        python = python.parent / python.readlink()
        _file(python, stage)
    yield python
    for folder in (*_python(), venv):
        for each in (stage / str(folder).lstrip("/")).rglob("*.so*"):
            yield Path("/") / each.relative_to(stage)


def _libraries(programs: Iterable[Path], stage: Path) -> None:
    """Copy what programs load: by the linker's word, and nft's own library, which is loaded by name."""
    for program in programs:
        for found in re.findall(r"(?:=> |^\t)(/\S+) \(0x", _ldd(program), re.MULTILINE):
            _file(Path(found), stage)


def _ldd(program: Path) -> str:
    try:
        return cache.call("ldd", program)
    except Exception:  # noqa: BLE001 - a script or a static program has no libraries
        return ""


def _busybox(stage: Path) -> None:
    program = cache.find("busybox")
    shutil.copy2(program, stage / "usr/bin/busybox")
    for name in cache.call(program, "--list").split():
        place = stage / "usr/bin" / name
        if not any(
            (stage / folder / name).is_symlink() or (stage / folder / name).exists()
            for folder in ("usr/bin", "usr/sbin")
        ):
            place.symlink_to("busybox")


def _compiled(stage: Path, venv: Path) -> list[str]:
    return [str(stage / str(folder).lstrip("/")) for folder in (*_python(), venv)]


def empty(result: Path, size: int) -> Path:
    """Write an empty ext4 disk (bytes) for what a guest changes and finds again after a reset: with a journal."""
    with result.open("wb") as file:
        file.truncate(size)
    cache.call("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", result)
    return result
