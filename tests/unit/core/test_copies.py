"""Bytes put together without the GIL are the same as joined ones."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.copies import join_parts


@given(st.lists(st.binary(max_size=50)), st.lists(st.booleans(), min_size=50, max_size=50))
def test_copies_are_what_joining_gives(parts: list[bytes], views: list[bool]) -> None:
    mixed = [memoryview(part) if view else part for part, view in zip(parts, views, strict=False)]
    found = join_parts(mixed)
    assert type(found) is bytes
    assert found == b"".join(mixed)
