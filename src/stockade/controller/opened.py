"""``off``: the active files without what can drop anything. Pure.

Modes and quarantines are commented out where they stand, so that every other document keeps its lines. Policies stay:
in ``visibility`` they drop nothing, and say what they would.
"""

import re
from collections.abc import Iterable, Iterator

from stockade.core.model.policy import Births, Mode, PolicySet
from stockade.seams.store import SourceFile

START = re.compile(r"^---(?:\s|$)")
CLOSING = re.compile(r"""\bkind["']?\s*:\s*["']?(?:EnforcementMode|Quarantine)\b""")


def opened(files: Iterable[SourceFile]) -> tuple[SourceFile, ...]:
    """Return the files without modes and quarantines; a file that held nothing else is left out."""
    kept = (SourceFile(each.name, _opened(each.text)) for each in files)
    return tuple(each for each in kept if _says_something(each.text))


def is_open(policy: PolicySet) -> bool:
    """Tell whether a policy set drops nothing, whatever comes."""
    harmless = (Mode.VISIBILITY, Mode.IDLE)
    modes = all(each.mode in harmless and each.births is not Births.HOLD for each in policy.modes)
    return modes and not policy.quarantines


def _opened(text: str) -> str:
    documents = list(_documents(text.splitlines()))
    return "".join(
        f"# {line}\n" if CLOSING.search("\n".join(lines)) else f"{line}\n" for lines in documents for line in lines
    )


def _documents(lines: Iterable[str]) -> Iterator[list[str]]:
    """Split at document starts; a start belongs to the document that it begins."""
    document: list[str] = []
    for line in lines:
        if START.match(line) and document:
            yield document
            document = []
        document.append(line)
    yield document


def _says_something(text: str) -> bool:
    return any(
        line.strip() and not line.lstrip().startswith("#") and line.strip() != "---" for line in text.splitlines()
    )
