"""Our own files: who could change what we run, or read and write what we keep."""

from collections.abc import Iterable, Iterator

from stockade.core.model.finding import Finding, Severity
from stockade.core.model.ids import CheckId
from stockade.core.posture.host.facts import FileSeen, FileUse

CHECK = CheckId("file-modes")
WRITABLE, ANYTHING = 0o022, 0o077


def files(found: Iterable[FileSeen]) -> Iterator[Finding]:
    """Yield each file that somebody else owns, may change, or may read where it is private."""
    for each in found:
        if why := _wrong(each):
            yield Finding(CHECK, each.path, Severity.HIGH, why, _remedy(each))


def _wrong(each: FileSeen) -> str:
    if not each.trusted:
        return f"it belongs to {each.owner}, who could replace {_what(each)}"
    if each.use is FileUse.MEETING or (each.use is FileUse.PARENT and each.sticky):
        return ""
    if each.mode & WRITABLE:
        return f"mode {each.mode:04o} lets others change {_what(each)}"
    if each.use is FileUse.PRIVATE and each.mode & ANYTHING:
        return f"mode {each.mode:04o} lets others read what is ours alone"
    return ""


def _what(each: FileSeen) -> str:
    match each.use:
        case FileUse.CODE:
            return "what runs as root"
        case FileUse.PARENT:
            return "what is below it, and runs as root or is enforced"
        case _:
            return "what is enforced"


def _remedy(each: FileSeen) -> str:
    if not each.trusted:
        return f"chown root {each.path}"
    if each.use is FileUse.PRIVATE:
        return f"chmod go= {each.path}"
    return f"chmod go-w {each.path}"
