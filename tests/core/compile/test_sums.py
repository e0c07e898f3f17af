"""What stands for a set: published vectors, and sums over many at once that equal sums of one at a time."""

from ipaddress import IPv4Address, IPv6Address

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stockade.core.compile.directory import Numbered, four_numbers
from stockade.core.compile.hashing import Hashing, siphash
from stockade.core.compile.ranges import Ranges
from stockade.core.compile.rows import rows
from stockade.core.model.ids import Address, Prefix

addresses = st.lists(st.builds(IPv4Address, st.integers(0, 2**32 - 1)) | st.builds(IPv6Address, st.integers(0, 2**40)))
PREFIXES = (Prefix("0.0.0.0/1"), Prefix("198.51.100.0/24"), Prefix("::/100"))


def test_siphash_gives_the_published_vector() -> None:
    # https://github.com/veorq/SipHash, vectors.h, vectors_sip64: key 00 … 0f, message 00 … 07
    low, high = np.frombuffer(bytes(range(16)), dtype="<u8")
    assert siphash(np.frombuffer(bytes(range(8)), dtype="<u8"), low, high).tolist() == [0x93F5F5799A932462]


@given(addresses)
def test_many_addresses_at_once_are_each_by_itself(found: list[IPv4Address | IPv6Address]) -> None:
    texts = [Address(str(each)) for each in found]
    hashing, ranges = Hashing(b"key"), Ranges(PREFIXES)
    assert Numbered(texts).hashed(hashing).tolist() == [int(Numbered([each]).hashed(hashing)[0]) for each in texts]
    assert Numbered(texts).inside(ranges) == {each for each in texts if each in ranges}


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_addresses_as_numbers(numbers: list[int]) -> None:
    assert four_numbers([Address(str(IPv4Address(each))) for each in numbers]).tolist() == numbers


@given(st.lists(st.lists(st.integers(0, 9))), st.lists(st.integers(0, 2**64 - 1), min_size=10, max_size=10))
def test_rows_are_summed_and_spread(lists: list[list[int]], values: list[int]) -> None:
    given_rows, weights = rows(lists), np.array(values, dtype=np.uint64)
    assert given_rows.sums(weights).tolist() == [sum(values[each] for each in row) % 2**64 for row in lists]
    told = np.arange(1, len(lists) + 1, dtype=np.uint64)
    expected = [sum(place * row.count(each) for place, row in enumerate(lists, 1)) for each in range(10)]
    assert given_rows.spread(told, 10).tolist() == expected
