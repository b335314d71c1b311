"""The cache is limited in entries and bytes, and removes its oldest entries first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.bounded_cache import BoundedCache


def test_the_oldest_entries_are_removed_at_the_limit_of_entries() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2, 100)
    for number, key in enumerate("abc"):
        cache.put(key, number, 1)
    assert [cache.get(key) for key in "abc"] == [None, 1, 2]
    assert (len(cache), cache.size) == (2, 2)


def test_the_oldest_entries_are_removed_at_the_limit_of_bytes() -> None:
    cache: BoundedCache[str, int] = BoundedCache(10, 10)
    cache.put("a", 1, 6)
    cache.put("b", 2, 4)
    cache.put("c", 3, 5)
    assert [cache.get(key) for key in "abc"] == [None, 2, 3]
    assert cache.size == 9


@pytest.mark.parametrize("size", [11, 1000])
def test_a_value_that_is_larger_than_the_cache_is_not_cached_and_replaces_the_old_one(size: int) -> None:
    cache: BoundedCache[str, int] = BoundedCache(10, 10)
    cache.put("a", 1, 1)
    cache.put("a", 2, size)
    assert (cache.get("a"), len(cache), cache.size) == (None, 0, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8))))
def test_any_order_of_calls_keeps_the_limits(puts: list[tuple[int, int]]) -> None:
    cache: BoundedCache[int, int] = BoundedCache(3, 10)
    for key, size in puts:
        cache.put(key, size, size)
        assert len(cache) <= 3
        assert cache.size == sum(cache.get(number) or 0 for number in range(6)) <= 10
        assert cache.get(key) == size
    for key in range(6):
        cache.drop(key)
    assert (len(cache), cache.size) == (0, 0)
