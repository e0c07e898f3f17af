"""Sums of keyed hashes: a set of things stands for one number that can be changed as cheaply as the set.

Numbers are 64 bits wide and wrap. The key keeps whoever chooses labels from choosing ones whose sums collide.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

MASK = (1 << 64) - 1

_ENCODE = msgspec.msgpack.Encoder().encode


class Hashing:
    """Hashes under one key."""

    def __init__(self, key: bytes = b"") -> None:
        self._seed = blake2b(digest_size=8, key=key)

    def text(self, content: str) -> int:
        """Return a number that stands for a text."""
        state = self._seed.copy()
        state.update(content.encode())
        return int.from_bytes(state.digest(), "little")

    def value(self, content: Any) -> int:
        """Return a number that stands for any value that msgspec encodes."""
        state = self._seed.copy()
        state.update(_ENCODE(content))
        return int.from_bytes(state.digest(), "little")

    def total(self, contents: Iterable[str]) -> int:
        """Return a number that stands for a set of texts, in whatever order."""
        return sum([self.text(each) for each in contents]) & MASK

    def odd(self, count: int) -> NDArray[np.uint64]:
        """Return so many odd numbers that nobody without the key can foretell."""
        return np.array([self.text(f"place {each}") | 1 for each in range(count)], dtype=np.uint64)
