"""Regions of counter memory: who has which words, what is zeroed, and what the next control process finds."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from penstock.control.monitoring.drift.regions import CounterRegion, CounterRegions, free_offset
from penstock.monitor.counters.layout import REGION_CELLS

ONE, TWO, THREE = ("m", "1"), ("m", "2"), ("m", "3")
HALF = REGION_CELLS // 2


class Memory:
    """Regions over a file; remembers what was zeroed."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "regions.json"
        self.cleared: list[tuple[int, int]] = []
        self.regions = self.opened()

    def opened(self) -> CounterRegions:
        return CounterRegions(self.file, lambda offset, size: self.cleared.append((offset, size)))


def test_a_version_keeps_its_region_until_what_is_counted_is_another(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    first = memory.regions.assign(ONE, "a", 100, (), [ONE])
    assert first == CounterRegion("a", 0, 100)
    assert memory.regions.assign(ONE, "a", 100, (), [ONE]) is first
    assert memory.cleared == [(0, 100)]
    for digest, size, keys in (("b", 100, ()), ("b", 120, ()), ("b", 120, ("country",))):
        before = memory.regions.get(ONE)
        after = memory.regions.assign(ONE, digest, size, keys, [ONE])
        assert after is not None
        assert before is not None
        assert (after.digest, after.size, after.keys) == (digest, size, keys)
        assert after.offset >= before.offset + before.size or after.offset + size <= before.offset


def test_another_control_process_finds_the_regions_and_a_torn_file_is_none(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.regions.assign(ONE, "a", 100, ("country",), [ONE, TWO])
    memory.regions.assign(TWO, "b", 50, (), [ONE, TWO])
    found = memory.opened()
    assert [found.get(key) for key in (ONE, TWO, THREE)] == [
        CounterRegion("a", 0, 100, ("country",)),
        CounterRegion("b", 100, 50),
        None,
    ]
    assert list(found) == [ONE, TWO]
    memory.file.write_text(memory.file.read_text()[:-5])
    assert list(memory.opened()) == []


def test_versions_that_are_not_served_release_their_counters(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.regions.assign(ONE, "a", HALF, (), [ONE, TWO])
    memory.regions.assign(TWO, "b", REGION_CELLS - HALF, (), [ONE, TWO])
    assert memory.regions.assign(THREE, "c", HALF, (), [ONE, TWO, THREE]) is None
    third = memory.regions.assign(THREE, "c", HALF, (), [TWO, THREE])
    assert third == CounterRegion("c", 0, HALF)
    assert list(memory.regions) == [TWO, THREE]


@given(
    st.lists(st.tuples(st.integers(0, REGION_CELLS), st.integers(1, REGION_CELLS // 4)), max_size=8),
    st.integers(1, REGION_CELLS),
)
def test_counters_are_assigned_once(places: list[tuple[int, int]], size: int) -> None:
    taken = [CounterRegion("", offset, length) for offset, length in places if offset + length <= REGION_CELLS]
    found = free_offset(taken, size)
    starts = [0, *(item.offset + item.size for item in taken)]
    fits = [
        at
        for at in starts
        if at + size <= REGION_CELLS
        and all(at + size <= item.offset or at >= item.offset + item.size for item in taken)
    ]
    assert found == (min(fits) if fits else None)
