"""A gateway's published counts: whatever is lost, repeated or taken for ended, the sum is what was counted."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.control.monitoring.publication import (
    CountsLayout,
    VersionCounts,
    add_ended,
    layout_id,
    pack,
    pack_block,
    pack_counts,
    sum_published,
    unpack,
    unpack_block,
)
from penstock.control.monitoring.publisher import Publisher
from penstock.core.errors import NotReady
from penstock.core.labels import OUTCOMES
from penstock.core.versions import VersionKey
from penstock.monitor.counters.layout import BLOCK_CELLS, SERIES
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.rows import RegionLayout
from penstock.registry.db.database import open_database
from penstock.registry.stores.evidence import RETIRED_S, EvidenceStore, Make, PublishedCounts, PublishedVersions
from tests.budgets import examples
from tests.counted import count_success
from tests.leases import leading
from tests.unit.control.test_monitoring import trained
from tests.unit.control.trials import Clock

KEY = ("m", "1")
REFERENCE = trained(rows=2000)
SHAPE = CountsLayout(layout_id(REFERENCE.digest, ()), RegionLayout.of(REFERENCE))
NOTHING = np.zeros(BLOCK_CELLS, np.uint64)


def counts(rows: int, requests: int = 0) -> VersionCounts:
    cells = np.zeros(SHAPE.size, np.uint64)
    cells[1] = rows
    cells[RegionLayout.of(REFERENCE).sums :].view(np.float64)[:] = rows / 3
    slot = Slot.in_process()
    for _ in range(requests):
        count_success(slot.block(1), 0, 1, 1_000_000, 0, 0, 1000, 0)
    return VersionCounts(SHAPE, cells, 1, Totals.of([slot], 1).cells)


def test_packed_counts_are_unpacked_unchanged() -> None:
    cells = np.arange(40, dtype=np.uint64) << np.uint64(33)
    found = unpack(pack(cells), 40)
    assert found is not None
    assert found.tolist() == cells.tolist()
    assert unpack(pack(cells), 41) is None, "of another release"
    assert unpack(b"otherwise packed", 40) is None
    assert unpack(pack(cells)[:9], 40) is None


def test_counts_of_another_release_are_not_added_even_if_they_have_as_many_cells() -> None:
    block = np.arange(BLOCK_CELLS, dtype=np.uint64)
    found = unpack_block(pack_block(block))
    assert found is not None and found.tolist() == block.tolist()
    earlier = len(OUTCOMES) - len(("unauthenticated", "unauthorised"))
    assert unpack_block(pack(np.zeros(BLOCK_CELLS - SERIES * (len(OUTCOMES) - earlier), np.uint64))) is None
    assert unpack_block(pack(block)) is None, "of a release that did not state its layout"
    assert unpack_block(pack(np.concatenate(([np.uint64(1)], block)))) is None


def test_keys_name_a_layout_in_whatever_order() -> None:
    assert layout_id("d", ("a", "b")) == layout_id("d", ("b", "a")) != layout_id("d", ("a",))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> EvidenceStore:
    return EvidenceStore(leading(open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0)), clock)


def total(store: EvidenceStore) -> tuple[int, int, float]:
    """Rows, requests and a sum of floats of all gateways."""
    found = sum_published(store.published(), {KEY: SHAPE}).get(KEY)
    if found is None:
        return 0, 0, 0.0
    floats = found.cells[RegionLayout.of(REFERENCE).sums :].view(np.float64)
    return int(found.cells[1]), found.totals.outcome_count(True), float(floats[0])


class Names:
    """The gateways, each with a file beside its counters."""

    def __init__(self, store: EvidenceStore, folder: Path) -> None:
        self._store, self._folder = store, folder

    def __call__(self, gateway: str) -> Publisher:
        """A gateway's publisher, in a new control process."""
        return Publisher(self._store, gateway, self._folder / f"{gateway}.json")


@pytest.fixture
def publisher_of(store: EvidenceStore, tmp_path: Path) -> Names:
    return Names(store, tmp_path)


def test_what_is_repeated_is_counted_once(store: EvidenceStore, publisher_of: Names) -> None:
    first, second = publisher_of("a"), publisher_of("b")
    for _ in range(3):
        first.publish({KEY: counts(10, 2)})
        second.publish({KEY: counts(5, 1)})
    assert total(store) == (15, 3, 5.0)
    assert len(store.published()) == 2


@pytest.mark.parametrize("replaced", [False, True])
def test_a_gateway_that_was_taken_for_ended_goes_on_beyond_what_it_had_said(
    store: EvidenceStore, clock: Clock, publisher_of: Names, replaced: bool
) -> None:
    publisher = publisher_of("a")
    publisher.publish({KEY: counts(10, 2)})
    clock.now += RETIRED_S + 1
    store.retire(lambda before, gone: add_ended({KEY: SHAPE}, before, gone))
    assert [row.gateway for row in store.published()] == [""]
    assert total(store)[:2] == (10, 2)
    for rows in (17, 30):
        publisher = publisher_of("a") if replaced else publisher
        publisher.publish({KEY: counts(rows, rows // 5)})
        assert total(store)[:2] == (rows, rows // 5)
    assert total(store)[2] == pytest.approx(10.0)


def test_a_gateway_that_counts_nothing_is_not_taken_for_ended(
    store: EvidenceStore, clock: Clock, publisher_of: Names
) -> None:
    publisher = publisher_of("a")
    for _ in range(int(RETIRED_S / 50) + 2):
        publisher.publish({KEY: counts(10)})
        clock.now += 50
        store.retire(lambda before, gone: add_ended({KEY: SHAPE}, before, gone))
    assert [row.gateway for row in store.published()] == ["a"]


def test_counts_of_another_reference_are_not_added_to_this_one(store: EvidenceStore, publisher_of: Names) -> None:
    other = CountsLayout("another", SHAPE.layout)
    publisher_of("a").publish({KEY: VersionCounts(other, counts(9).cells, 1, counts(0, 4).block)})
    publisher_of("b").publish({KEY: counts(5, 1)})
    assert total(store)[:2] == (5, 5)


def test_what_is_not_served_any_more_is_forgotten(store: EvidenceStore, clock: Clock, publisher_of: Names) -> None:
    publisher_of("a").publish({KEY: counts(5), ("m", "2"): counts(3)})
    clock.now += RETIRED_S + 1
    store.retire(lambda before, gone: add_ended({KEY: SHAPE}, before, gone))
    store.forget({KEY})
    assert [(row.version, row.gateway) for row in store.published()] == [("1", "")]


class Shaky(EvidenceStore):
    """Fails as it is told to: before the write, or after it as a lost answer does."""

    fails = ""

    def publish(self, gateway: str, served: Collection[VersionKey], make: Make) -> None:
        def failing(present: PublishedVersions) -> Sequence[PublishedCounts]:
            make(present)
            raise NotReady("away")

        super().publish(gateway, served, failing if self.fails == "before" else make)
        if self.fails == "after":
            raise NotReady("away")


@settings(max_examples=examples(20))
@given(
    st.lists(st.tuples(st.sampled_from(["", "before", "after", "ended", "replaced"]), st.integers(0, 9)), max_size=10)
)
def test_no_failure_loses_or_doubles_what_was_counted(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    clock, folder = Clock(), tmp_path_factory.mktemp("publication")
    store = Shaky(leading(open_database(f"sqlite:///{folder / 'registry.db'}", 5.0)), clock)
    publisher_of, rows = Names(store, folder), 0
    publisher = publisher_of("a")
    for fails, more in steps:
        rows += more
        if fails == "replaced":
            publisher = publisher_of("a")
            continue
        if fails == "ended":
            store.fails = ""
            publisher.publish({KEY: counts(rows)})
            clock.now += RETIRED_S + 1
            store.retire(lambda before, gone: add_ended({KEY: SHAPE}, before, gone))
            continue
        store.fails = fails
        try:
            publisher.publish({KEY: counts(rows)})
        except NotReady:
            assert total(store)[0] <= rows
        else:
            assert total(store)[0] == rows
    store.fails = ""
    publisher.publish({KEY: counts(rows)})
    assert total(store)[0] == rows


@settings(max_examples=examples(25))
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "before", "after", "cut", "replaced", "other"]), st.integers(0, 9)), max_size=8
    )
)
def test_a_gateway_that_is_cut_off_is_never_counted_twice_whoever_goes_on_for_it(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Rows end while the gateway cannot say anything, and its control process is replaced meanwhile."""
    clock, folder = Clock(), tmp_path_factory.mktemp("publication")
    store = Shaky(leading(open_database(f"sqlite:///{folder / 'registry.db'}", 5.0)), clock)
    publisher_of, rows, others = Names(store, folder), 0, 0
    publisher = publisher_of("a")
    for what, more in steps:
        rows += more
        if what == "replaced":
            publisher = publisher_of("a")
        elif what == "cut":
            clock.now += RETIRED_S + 1
            store.retire(lambda before, gone: add_ended({KEY: SHAPE}, before, gone))
        elif what == "other":
            others += 5
            store.fails = ""
            publisher_of(f"other-{clock.now}-{others}").publish({KEY: counts(5)})
        else:
            store.fails = what
            with suppress(NotReady):
                publisher.publish({KEY: counts(rows)})
        assert total(store)[0] <= rows + others
    store.fails = ""
    publisher.publish({KEY: counts(rows)})
    found = total(store)[0]
    assert found <= rows + others
    assert "before" in dict(steps) or found == rows + others, "only what was tried last may be lost"


def test_counts_that_cannot_be_noted_are_not_published(store: EvidenceStore, tmp_path: Path) -> None:
    publisher = Publisher(store, "a", tmp_path / "nowhere" / "notes.json")
    with pytest.raises(OSError, match="nowhere"):
        publisher.publish({KEY: counts(10)})
    assert store.published() == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1]", '[["m", "1", {}]]'])
def test_notes_of_another_form_say_nothing(store: EvidenceStore, tmp_path: Path, text: str) -> None:
    notes = tmp_path / "notes.json"
    notes.write_text(text)
    Publisher(store, "a", notes).publish({KEY: counts(10)})
    assert total(store)[0] == 10


def test_counts_beyond_a_publication_without_a_reference_are_all_cells() -> None:
    later = counts(9, requests=3)
    beyond = later.since(VersionCounts(CountsLayout(), np.zeros(0, np.uint64), 0, counts(0, requests=1).block))
    assert beyond.cells.tolist() == later.cells.tolist()
    assert beyond.totals.outcome_count(True) == 2


def test_published_counts_of_a_version_that_is_not_served_are_left_out() -> None:
    rows = [pack_counts(key, "a", counts(2)) for key in (KEY, ("m", "2"))]
    assert set(sum_published(rows, {KEY: SHAPE})) == {KEY}
