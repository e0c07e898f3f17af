"""Policy documents ↔ model: read, check, normalise, hash, write, and say what cannot be enforced yet.

Files come in as bytes and go out as text: nothing here opens one.
"""

from stockade.core.policy.builtin import complete, own
from stockade.core.policy.canonical import canonical, content_hash, placeless
from stockade.core.policy.documents import to_documents
from stockade.core.policy.enforce import enforceable
from stockade.core.policy.nodes import SourceText
from stockade.core.policy.read import Draft, Written, read
from stockade.core.policy.report import advised, shown
from stockade.core.policy.schema import schema
from stockade.core.policy.words import WordError, ports_of, ports_text

__all__ = [
    "Draft",
    "SourceText",
    "WordError",
    "Written",
    "advised",
    "canonical",
    "complete",
    "content_hash",
    "enforceable",
    "own",
    "placeless",
    "ports_of",
    "ports_text",
    "read",
    "schema",
    "shown",
    "to_documents",
]
