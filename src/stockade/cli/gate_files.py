"""The gate on this machine's disk: runtimes' configuration read and replaced, the program, and what was there before.

Every file is replaced whole or not at all, with its owner and mode. What a file was before the gate came is kept, so
that it comes back byte for byte; where somebody changed it since, only the gate's part is taken out.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files as package_files
from pathlib import Path

import httpx
import msgspec

from stockade.cli.client import over
from stockade.core.gate import Call, Files, Target
from stockade.core.gate.containerd import DEFAULT_SPEC
from stockade.core.gate.docker import BEHIND, NAME
from stockade.decoding import ready
from stockade.errors import StockadeError

PACKAGED = "/usr/lib/stockade/stockade-gate"
"""Where the Debian package has it."""
COPIED = "/usr/local/lib/stockade/stockade-gate"
"""Where it is put otherwise: a runtime must find it after an environment of Python's is gone."""
RECORDS = "gates"
PATIENCE = 10.0

Edits = Mapping[str, str | None]


class Record(msgspec.Struct, frozen=True):
    """What was done to one runtime's configuration: each file before and after, and copies of the program."""

    files: tuple[tuple[str, str | None, str | None], ...] = ()
    programs: tuple[str, ...] = ()


class Disk:
    """Files below ``root``; records in the state folder."""

    def __init__(self, state: Path, docker: str, root: Path = Path("/")) -> None:
        """``docker``: the address of its engine, who is asked which containers were created behind the gate."""
        self._records = state / RECORDS
        self._docker = docker
        self._root = root

    def read(self, target: Target) -> dict[str, str | None]:
        """Return a target's files: those that are there, and the one that would be made."""
        found: dict[str, str | None] = {}
        for pattern in target.patterns:
            if "*" not in pattern:
                found[pattern] = self._text(pattern)
            else:
                found |= {each: self._text(each) for each in self._matching(pattern)}
        return found

    def needed(self, target: Target, files: Files, *, keep_name: bool = False) -> dict[str, str | None]:
        """Return what else a target wants to know. ``keep_name``: as if containers were behind Docker's gate."""
        facts: dict[str, Callable[[], str | None]]
        facts = {DEFAULT_SPEC: _default_spec, BEHIND: lambda: "its name is kept" if keep_name else behind(self._docker)}
        return {each: facts[each]() if each in facts else self._text(each) for each in target.needs(files)}

    def write(self, target: Target, edits: Edits, programs: Iterable[str]) -> None:
        """Carry out edits and remember what was there before the first of them; put the program where it is called."""
        record = self.record(target)
        before = {path: old for path, old, new in record.files if self._text(path) == new}
        changed = {path: (before.get(path, self._text(path)), new) for path, new in edits.items()}
        kept = [each for each in record.files if each[0] not in changed]
        files = (*kept, *((path, old, new) for path, (old, new) in changed.items()))
        for program in programs:
            self._install(program)
        self._remember(target, Record(tuple(sorted(files)), tuple(sorted({*record.programs, *programs}))))
        for path, text in edits.items():
            self._replace(path, text)

    def undo(self, target: Target, edits: Edits) -> None:
        """Carry out what takes the gate out. The program stays: who has not read the change yet still calls it."""
        for path, text in edits.items():
            self._replace(path, text)
        self._remember(target, Record(programs=self.record(target).programs))

    def tidy(self, target: Target) -> None:
        """Forget a target from which the gate was taken, and remove copies of the program that nobody else calls."""
        mine = set(self.record(target).programs)
        (self._records / f"{target.name}.json").unlink(missing_ok=True)
        for program in sorted(mine - {each for record in self._all() for each in record.programs}):
            self._path(program).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._path(program).parent.rmdir()

    def exactly(self, target: Target, edits: Edits) -> Edits:
        """Return edits that bring back what was, byte for byte, wherever nobody changed a file since."""
        untouched = {path: old for path, old, new in self.record(target).files if self._text(path) == new}
        return {path: untouched.get(path, text) for path, text in edits.items()}

    def record(self, target: Target) -> Record:
        """Return what was done to a target before; an empty record where nothing was, or where it cannot be read."""
        try:
            return msgspec.json.decode((self._records / f"{target.name}.json").read_bytes(), type=ready(Record))
        except (FileNotFoundError, msgspec.DecodeError):
            return Record()

    def program(self) -> str:
        """Return where runtimes shall find the gate."""
        return PACKAGED if self._path(PACKAGED).exists() else COPIED

    def programs(self, target: Target, call: Call) -> tuple[str, ...]:
        """Return where copies of the program must be for a target."""
        wanted = (call.program, target.program)
        return tuple(each for each in wanted if each and each != PACKAGED)

    def doubtful(self, program: str) -> str:
        """Say what is wrong with the program at a place; empty where nothing is."""
        path = self._path(program)
        try:
            found = path.stat()
        except OSError:
            return f"{program} is missing: nothing can be started"
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            return f"{program} can be changed by others than root"
        same = _digest(path) == _digest(built()) if program != PACKAGED else True
        return "" if same else f"{program} is another version's: stockade gate install again"

    def _matching(self, pattern: str) -> Iterator[str]:
        for each in sorted(self._root.glob(pattern.lstrip("/"))):
            yield f"/{each.relative_to(self._root)}"

    def _path(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    def _text(self, path: str) -> str | None:
        try:
            return self._path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as problem:
            raise StockadeError(
                f"{path} cannot be read: {problem}", kept="nothing was changed", remedy="run it as root"
            ) from None

    def _replace(self, path: str, text: str | None) -> None:
        where = self._path(path).resolve()
        if text is None:
            where.unlink(missing_ok=True)
            return
        where.parent.mkdir(parents=True, exist_ok=True)
        fresh = where.with_name(f".{where.name}.stockade")
        fresh.write_text(text, encoding="utf-8")
        if where.exists():
            shutil.copymode(where, fresh)
            os.chown(fresh, where.stat().st_uid, where.stat().st_gid)
        _settle(fresh)
        fresh.replace(where)

    def _install(self, program: str) -> None:
        """Put the program somewhere at once: a runtime may be calling the one that is there."""
        where = self._path(program)
        where.parent.mkdir(parents=True, exist_ok=True)
        fresh = where.with_name(f".{where.name}.new")
        shutil.copyfile(built(), fresh)
        fresh.chmod(0o755)
        _settle(fresh)
        fresh.replace(where)

    def _remember(self, target: Target, record: Record) -> None:
        self._records.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._records / f"{target.name}.json"
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(record))
        _settle(fresh)
        fresh.replace(path)

    def _all(self) -> Iterator[Record]:
        for path in sorted(self._records.glob("*.json")):
            with contextlib.suppress(msgspec.DecodeError):
                yield msgspec.json.decode(path.read_bytes(), type=ready(Record))


def built() -> Path:
    """Return the program that belongs to this version. ``StockadeError`` where it was not built."""
    path = Path(str(package_files("stockade.gate"))) / "stockade-gate"
    if path.exists():
        return path
    if Path(PACKAGED).exists():
        return Path(PACKAGED)
    raise StockadeError(
        "the gate's program was not built",
        kept="nothing was changed",
        remedy="apt-get install gcc libc6-dev, then: make setup (or install Stockade again)",
    )


def asked(path: Path) -> str:
    """Ask the agent as a runtime would; return what keeps a container from starting, empty where nothing does."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PATIENCE)
            asking.connect(str(path))
            asking.sendall(b"status\t\t\n")
            return asking.makefile(encoding="utf-8").readline().strip()
    except OSError:
        return "the agent does not answer"


def behind(docker: str) -> str:
    """Ask Docker which containers have the gate for their runtime; what it cannot tell is taken for some."""
    try:
        with httpx.Client(transport=over(docker.removeprefix("unix://")), timeout=PATIENCE) as engine:
            listed = engine.get("http://docker/containers/json", params={"all": "1"}).raise_for_status().json()
            found = [engine.get(f"http://docker/containers/{each['Id']}/json").json() for each in listed]
    except (httpx.HTTPError, ValueError):
        return "unknown: Docker does not answer"
    return " ".join(sorted(each["Name"] for each in found if each["HostConfig"]["Runtime"] == NAME))


def _default_spec() -> str | None:
    """Ask containerd's own client for what a container is given."""
    try:
        done = subprocess.run(("ctr", "oci", "spec"), capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _settle(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
