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
        self._words = np.frombuffer(blake2b(b"words", digest_size=16, key=key).digest(), dtype="<u8")

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

    def words(self, contents: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return a number that stands for each number: many at once, by another function than ``text``."""
        return siphash(contents, self._words[0], self._words[1])

    def total(self, contents: Iterable[str]) -> int:
        """Return a number that stands for a set of texts, in whatever order."""
        return sum([self.text(each) for each in contents]) & MASK

    def odd(self, count: int) -> NDArray[np.uint64]:
        """Return so many odd numbers that nobody without the key can foretell."""
        return np.array([self.text(f"place {each}") | 1 for each in range(count)], dtype=np.uint64)


def siphash(words: NDArray[np.uint64], key: np.uint64, other: np.uint64) -> NDArray[np.uint64]:
    """Return SipHash-2-4 of messages of one 64-bit word each (Aumasson and Bernstein 2012); the key has two halves."""
    state = [
        np.full(len(words), start ^ half, dtype=np.uint64) for start, half in zip(_START, (key, other) * 2, strict=True)
    ]
    for block in (words, _LENGTH):
        state[3] ^= block
        _rounds(state, 2)
        state[0] ^= block
    state[2] ^= np.uint64(0xFF)
    _rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rounds(state: list[NDArray[np.uint64]], count: int) -> None:
    """Mix in place (SipRound, section 2 of the paper)."""
    a, b, c, d = state
    for _ in range(count):
        a += b
        _rotate(b, 13)
        b ^= a
        _rotate(a, 32)
        c += d
        _rotate(d, 16)
        d ^= c
        a += d
        _rotate(d, 21)
        d ^= a
        c += b
        _rotate(b, 17)
        b ^= c
        _rotate(c, 32)


def _rotate(words: NDArray[np.uint64], by: int) -> None:
    low = words >> np.uint64(64 - by)
    words <<= np.uint64(by)
    words |= low


_START = tuple(map(np.uint64, (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)))
_LENGTH = np.uint64(8 << 56)
