"""Which versions fit into the memory of a worker."""

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.model_memory import MIB, MemoryNeed, exclude_versions


def need(name: str, mib: int, rank: int = 0) -> MemoryNeed:
    return MemoryNeed((name, "1"), mib * MIB, rank)


def test_what_fits_is_taken_in_order_and_the_rest_is_named_with_the_reason() -> None:
    excluded = exclude_versions([need("a", 100), need("b", 200), need("c", 50)], 260 * MIB)
    assert excluded == {
        ("b", "1"): "it needs 200 MiB of memory, and of the 260 MiB for the models of a worker 160 MiB are free; "
        "serve fewer versions, or raise limits.models_memory_bytes"
    }


def test_what_serves_comes_before_what_is_new() -> None:
    assert set(exclude_versions([need("new", 200, 1), need("old", 200, 0)], 300 * MIB)) == {("new", "1")}


def test_all_of_the_limit_may_be_used() -> None:
    assert exclude_versions([need("a", 100), need("b", 200)], 300 * MIB) == {}
    assert set(exclude_versions([need("a", 100), MemoryNeed(("b", "1"), 200 * MIB + 1)], 300 * MIB)) == {("b", "1")}


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 2)), max_size=12), st.integers(0, 300))
def test_the_sum_never_exceeds_the_limit_and_nothing_is_left_out_that_fits(
    sizes: list[tuple[int, int]], limit: int
) -> None:
    needs = [MemoryNeed((str(place), "1"), size, rank) for place, (size, rank) in enumerate(sizes)]
    excluded = exclude_versions(needs, limit)
    taken = sum(item.memory_bytes for item in needs if item.key not in excluded)
    assert taken <= limit
    assert all(item.memory_bytes > limit - taken for item in needs if item.key in excluded)
