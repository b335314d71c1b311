"""Buckets are found as by bisection, whatever was looked up before."""

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.bucket_finder import BucketFinder
from penstock.core.buckets import FINE_EDGES_NS, LATENCY_EDGES_NS

EDGES = st.one_of(
    st.sampled_from([LATENCY_EDGES_NS, FINE_EDGES_NS]),
    st.lists(st.integers(0, 1000), unique=True).map(sorted).map(tuple),
)


@given(EDGES, st.data())
def test_it_finds_what_bisection_finds(edges: tuple[int, ...], data: st.DataObject) -> None:
    finder = BucketFinder(edges)
    near = st.sampled_from(edges).flatmap(lambda edge: st.integers(max(0, edge - 1), edge + 1)) if edges else st.just(7)
    for value in data.draw(st.lists(st.one_of(near, st.integers(0, 1 << 59)), max_size=20)):
        assert finder.find(value) == bisect_left(edges, value)


def test_the_first_search_begins_below_the_first_edge() -> None:
    assert [BucketFinder([1, 5]).find(value) for value in (0, 1, 2, 5, 6)] == [0, 0, 1, 1, 2]
