"""Debian's kernels, fetched by the machine's own apt from the machine's own sources, and never installed.

Which version a name stands for is settled when it is first asked for and kept with it: a run tomorrow boots the same
kernel. Remove the cache folder for newer ones.
"""

import re
from pathlib import Path

import msgspec

from stockade.errors import StockadeError
from stockade.testing.guest import cache

STABLE = "stable"
"""The kernel of the machine's Debian release (6.1 with Debian 12)."""
BACKPORTS = "backports"
"""The newest that its backports have."""
PACKAGE = "linux-image-cloud-amd64"
TARGET = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Kernel(msgspec.Struct, frozen=True):
    """A kernel that can be booted. ``folder`` has ``boot/vmlinuz-VERSION`` and ``lib/modules/VERSION``."""

    name: str
    version: str
    folder: Path

    @property
    def image(self) -> Path:
        """The file that QEMU boots."""
        return self.folder / "boot" / f"vmlinuz-{self.version}"

    @property
    def modules(self) -> Path:
        """Where its modules and their index are."""
        return self.folder / "lib" / "modules" / self.version


def kernel(name: str) -> Kernel:
    """Return a kernel, fetched on first use. Raises ``StockadeError`` where the machine's sources do not offer it."""
    package = cache.made(f"kernels/{name}.package", lambda path: _settle(name, path)).read_text(encoding="ascii")
    version = package.removeprefix("linux-image-")
    folder = cache.made(f"kernels/{version}", lambda path: _fetch(package, path))
    return Kernel(name, version, folder)


def _settle(name: str, result: Path) -> None:
    release = ("-t", f"{_codename()}-backports") if name == BACKPORTS else ()
    said = cache.call("apt-get", *_own_apt(), *release, "--no-install-recommends", "-s", "install", PACKAGE)
    found = re.findall(r"^Inst (linux-image-\d\S+)", said, re.MULTILINE)
    if not found:
        raise StockadeError(f"the apt sources of this machine offer no {PACKAGE} for {name}", kept="nothing was kept")
    if name == BACKPORTS and found[0] == _stable():
        raise StockadeError("the backports of this machine's apt sources have no newer kernel")
    result.write_text(found[0], encoding="ascii")


def _stable() -> str:
    return f"linux-image-{kernel(STABLE).version}"


def _fetch(package: str, result: Path) -> None:
    packed = result.parent / "packed"
    packed.mkdir()
    cache.call("sh", "-c", 'cd "$1" && shift && exec apt-get "$@"', "sh", packed, *_own_apt(), "download", package)
    cache.call("dpkg-deb", "-x", *packed.glob("*.deb"), result)
    cache.call("depmod", "-b", result, package.removeprefix("linux-image-"))


def _own_apt() -> tuple[str, ...]:
    """Return the options that give apt lists of our own: the machine's Debian sources and their backports."""
    home = cache.made("apt", _list)
    return (
        "-o", f"Dir::Etc::sourcelist={home}/sources.list",
        "-o", "Dir::Etc::sourceparts=/dev/null",
        "-o", f"Dir::State::lists={home}/lists",
        "-o", f"Dir::Cache={home}/cache",
        "-o", "Dir::State::status=/dev/null",
        "-o", "Debug::NoLocking=1",
        "-o", "APT::Sandbox::User=root",
    )  # fmt: skip


def _list(home: Path) -> None:
    for each in ("lists/partial", "cache/archives/partial"):
        (home / each).mkdir(parents=True)
    name = _codename()
    (home / "sources.list").write_text("".join(_sources(name)), encoding="utf-8")
    cache.call(
        "apt-get",
        "-o", f"Dir::Etc::sourcelist={home}/sources.list",
        "-o", "Dir::Etc::sourceparts=/dev/null",
        "-o", f"Dir::State::lists={home}/lists",
        "-o", f"Dir::Cache={home}/cache",
        "-o", "Acquire::Languages=none",
        "-o", "APT::Sandbox::User=root",
        "--error-on=any",
        "update",
    )  # fmt: skip


def _sources(codename: str) -> list[str]:
    lines = set()
    said = cache.call("apt-get", "indextargets", "--format", TARGET, "Created-By: Packages")
    by = f"[signed-by={KEYS}] " if KEYS.exists() else ""
    for repository, release, component in (line.split() for line in said.splitlines() if line):
        if component == "main" and release.split("-")[0] == codename:
            lines.add(f"deb {by}{repository} {release} main\n")
            if release == codename:
                lines.add(f"deb {by}{repository} {codename}-backports main\n")
    if not lines:
        raise StockadeError(f"this machine's apt has no sources for {codename}")
    return sorted(lines)


def _codename() -> str:
    said = Path("/etc/os-release").read_text(encoding="utf-8")
    found = re.search(r'^VERSION_CODENAME="?(\w+)"?$', said, re.MULTILINE)
    if found is None or not re.search(r'^ID="?debian"?$', said, re.MULTILINE):
        raise StockadeError("Debian's kernels are fetched by Debian's apt, and this machine is not Debian")
    return found[1]
