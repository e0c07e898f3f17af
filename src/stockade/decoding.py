"""Types that any thread may decode into.

msgspec makes what it needs to know of a type when the first value is decoded into it, and runs Python meanwhile.
Another thread that decodes just then into the same type, or into one that holds it, is given what is half made, and
the process dies. So a type is made known under one lock before anything is decoded into it.
"""

import threading
from typing import TypeVar

import msgspec

T = TypeVar("T")
_making = threading.RLock()
_made: set[object] = set()


def ready(kind: T) -> T:
    """Return a type, or whatever msgspec decodes into (a union, ``tuple[…]``), once all of it is known to msgspec."""
    if kind not in _made:
        with _making:
            msgspec.msgpack.Decoder(kind)
            _made.add(kind)
    return kind
