"""What libvirt knows of its domains while they run: the status files in ``/run/libvirt/qemu``, read and never trusted.

A file that is too large, that declares a document type, or that is not what it should be, is passed over.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as Xml

import msgspec

FOLDER = Path("/run/libvirt/qemu")
LARGEST = 1 << 20
PAIRS, LENGTH = 64, 256
"""How many words of a domain's metadata are kept, and how long each may be."""


class Domain(msgspec.Struct, frozen=True):
    """A running domain. ``words``: its title and its metadata's leaves, by path, as ``metadata.owner``; sorted."""

    pid: int
    name: str
    uuid: str
    words: tuple[tuple[str, str], ...] = ()


def domains(folder: Path = FOLDER) -> dict[int, Domain]:
    """Return the domains that run, by pid."""
    try:
        files = sorted(each for each in folder.iterdir() if each.suffix == ".xml")
    except OSError:
        return {}
    return {found.pid: found for each in files if (found := domain(_bytes(each)))}


def domain(status: bytes) -> Domain | None:
    """Read a status file; None where it is not one of a running domain."""
    if len(status) > LARGEST or b"<!" in status.replace(b"<!--", b""):
        return None
    try:
        root = Xml.fromstring(status)
    except Xml.ParseError:
        return None
    inner = root.find("domain")
    pid = root.get("pid", "")
    if root.tag != "domstatus" or root.get("state") == "shutoff" or inner is None or not pid.isdigit():
        return None
    words = dict(_words(inner))
    return Domain(int(pid), _said(inner, "name"), _said(inner, "uuid").lower(), tuple(sorted(words.items())))


def _words(inner: Xml.Element) -> Iterator[tuple[str, str]]:
    if title := _said(inner, "title"):
        yield "title", title
    metadata = inner.find("metadata")
    found = _leaves(metadata, "metadata") if metadata is not None else iter(())
    for (path, text), _ in zip(found, range(PAIRS), strict=False):
        yield path, text


def _leaves(element: Xml.Element, path: str) -> Iterator[tuple[str, str]]:
    for each in element:
        here = f"{path}.{each.tag.rpartition('}')[2]}"[:LENGTH]
        text = (each.text or "").strip()[:LENGTH]
        if text and not len(each):
            yield here, text
        for name, value in sorted(each.attrib.items()):
            yield f"{here}.{name.rpartition('}')[2]}"[:LENGTH], value[:LENGTH]
        yield from _leaves(each, here)


def _said(element: Xml.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()[:LENGTH]


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError:
        return b""
