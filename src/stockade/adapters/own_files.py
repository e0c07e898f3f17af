"""Our own files as they stand: what is kept, what is run, and every folder above. Reads names and modes, no content."""

import contextlib
import os
import pwd
import stat
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import stockade
from stockade.core.posture.host import FileSeen, FileUse

KEPT = (
    "stockade.db",
    "stockade.db-wal",
    "stockade.db-shm",
    "assignment",
    "assignment.new",
    "nft.sock",
    "nft.sock.lock",
)
"""What we make in the state folder."""
PACKAGE = Path(stockade.__file__).resolve().parent
PROGRAM = "stockade"


def own_files(state: Path, socket: Path) -> tuple[FileSeen, ...]:
    """Return what is there of ours, by path. What is not there, or goes meanwhile, is left out."""
    trusted = _trusted()
    found: dict[str, FileSeen] = {}
    roots = [*_kept(state, socket), *_run()]
    for root, use in roots:
        _add(found, str(root), use, trusted)
    for path in _below(str(PACKAGE)):
        _add(found, path, FileUse.CODE, trusted)
    for parent in {parent for root, _ in roots for parent in root.parents}:
        _add(found, str(parent), FileUse.PARENT, trusted)
    return tuple(found[path] for path in sorted(found))


def _add(found: dict[str, FileSeen], path: str, use: FileUse, trusted: frozenset[int]) -> None:
    """What is a file of its own use is not seen again as a folder above another."""
    if path not in found:
        with contextlib.suppress(OSError):
            found[path] = _seen(path, use, trusted)


def _kept(state: Path, socket: Path) -> Iterator[tuple[Path, FileUse]]:
    state, socket = state.absolute(), socket.absolute()
    yield state, FileUse.PRIVATE
    yield state.resolve(), FileUse.PRIVATE
    for name in KEPT:
        yield state / name, FileUse.PRIVATE
    yield socket, FileUse.MEETING
    yield socket.resolve(), FileUse.MEETING


def _run() -> Iterator[tuple[Path, FileUse]]:
    """Yield the interpreter, the program that starts us, and our package; each by its name and where that leads."""
    interpreter, package = Path(sys.executable), Path(stockade.__file__).parent
    for path in (interpreter, interpreter.resolve(), interpreter.with_name(PROGRAM), package, PACKAGE):
        yield path, FileUse.CODE


def _below(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for each in entries:
            yield each.path
            if each.is_dir(follow_symlinks=False):
                yield from _below(each.path)


def _seen(path: str, use: FileUse, trusted: frozenset[int]) -> FileSeen:
    """A symbolic link has no mode of its own: who owns it, and who may change its folder, is what counts."""
    found = os.lstat(path)
    mode = 0 if stat.S_ISLNK(found.st_mode) else stat.S_IMODE(found.st_mode)
    return FileSeen(path, use, mode, _name(found.st_uid), found.st_uid in trusted)


def _trusted() -> frozenset[int]:
    """Return root and ourselves; within a user namespace also whoever has no name there, as the machine's root."""
    own = {0, os.geteuid()}
    if Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", "4294967295"]:
        own.add(int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii")))
    return frozenset(own)


@cache
def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def tighten(state: Path, names: Iterable[str] = KEPT) -> tuple[str, ...]:
    """Take from others what we made in the state folder; return what was changed. The folder itself is its owner's."""
    changed = []
    for path in (state / name for name in names):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if not stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o077:
                path.chmod(stat.S_IMODE(found.st_mode) & ~0o077)
                changed.append(str(path))
    return tuple(changed)
