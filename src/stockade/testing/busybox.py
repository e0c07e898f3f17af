"""A root file system of the machine's static busybox: an archive (an image that no registry has seen), or a folder."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from stockade.errors import StockadeError

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def root_archive(files: Mapping[str, bytes]) -> bytes:
    """Return busybox with a name for each of its applets, and ``files`` (path → content), executable."""
    program = _program()
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("bin", "etc", "tmp", "proc", "sys", "dev", "run", "www"):
            _folder(archive, folder)
        _file(archive, "bin/busybox", Path(program).read_bytes())
        for name in sorted(set(names) - {"busybox"}):
            _link(archive, f"bin/{name}", "busybox")
        _file(archive, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        for path, content in sorted(files.items()):
            _file(archive, path.lstrip("/"), content)
    return buffer.getvalue()


def root_folder(folder: Path, *names: str) -> Path:
    """Make a root file system of busybox alone, with these of its applets, as ``systemd-nspawn`` takes it."""
    for each in ("bin", "etc", "usr/lib", "proc", "sys", "dev", "run", "tmp"):
        (folder / each).mkdir(parents=True)
    shutil.copy(_program(), folder / "bin/busybox")
    for name in names:
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "usr/lib/os-release").write_text("ID=busybox\n", encoding="utf-8")
    return folder


def _program() -> str:
    program = shutil.which("busybox", path=PATH)
    if program is None:
        raise StockadeError("busybox is not installed", remedy="apt-get install busybox-static")
    return program


def _folder(archive: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(entry)


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    archive.addfile(entry)


def _file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    archive.addfile(entry, io.BytesIO(content))
