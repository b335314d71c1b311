"""A gateway's published counts: whatever is lost, repeated or taken for ended, the sum is what was counted."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.control.monitoring.publication import Counts, Publisher, Shape, ended, layout_id, pack, summed, unpack
from penstock.core.errors import NotReady
from penstock.monitor.counters import BLOCK_WORDS, Slot, Totals
from penstock.monitor.rows import Layout
from penstock.registry.db.database import open_database
from penstock.registry.stores.evidence import RETIRED_S, EvidenceStore, Key, Make, Published
from tests.leases import leading
from tests.unit.control.test_monitoring import trained
from tests.unit.control.trials import Clock

KEY = ("m", "1")
REFERENCE = trained(rows=2000)
SHAPE = Shape(layout_id(REFERENCE.digest, ()), Layout.of(REFERENCE))
NOTHING = np.zeros(BLOCK_WORDS, np.uint64)


def counts(rows: int, requests: int = 0) -> Counts:
    words = np.zeros(SHAPE.size, np.uint64)
    words[1] = rows
    words[Layout.of(REFERENCE).sums :].view(np.float64)[:] = rows / 3
    slot = Slot.in_process()
    for _ in range(requests):
        slot.block(1).answered(0, 1, 1_000_000, 0, 0, 1000, 0)
    return Counts(SHAPE, words, 1, Totals.of([slot], 1).words)


def test_words_come_back_as_they_were_packed() -> None:
    words = np.arange(40, dtype=np.uint64) << np.uint64(33)
    found = unpack(pack(words), 40)
    assert found is not None
    assert found.tolist() == words.tolist()
    assert unpack(pack(words), 41) is None, "of another release"


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
    found = summed(store.published(), {KEY: SHAPE}).get(KEY)
    if found is None:
        return 0, 0, 0.0
    floats = found.words[Layout.of(REFERENCE).sums :].view(np.float64)
    return int(found.words[1]), found.totals.outcome_count(True), float(floats[0])


def test_what_is_repeated_is_counted_once(store: EvidenceStore) -> None:
    first, second = Publisher(store, "a"), Publisher(store, "b")
    for _ in range(3):
        first.publish({KEY: counts(10, 2)})
        second.publish({KEY: counts(5, 1)})
    assert total(store) == (15, 3, 5.0)
    assert len(store.published()) == 2


def test_a_gateway_that_was_taken_for_ended_goes_on_beyond_what_it_had_said(store: EvidenceStore, clock: Clock) -> None:
    publisher = Publisher(store, "a")
    publisher.publish({KEY: counts(10, 2)})
    clock.now += RETIRED_S + 1
    store.retire(lambda before, gone: ended({KEY: SHAPE}, before, gone))
    assert [row.gateway for row in store.published()] == [""]
    assert total(store)[:2] == (10, 2)
    for rows in (17, 30):
        publisher.publish({KEY: counts(rows, rows // 5)})
        assert total(store)[:2] == (rows, rows // 5)
    assert total(store)[2] == pytest.approx(10.0)


def test_a_gateway_that_counts_nothing_is_not_taken_for_ended(store: EvidenceStore, clock: Clock) -> None:
    publisher = Publisher(store, "a")
    for _ in range(int(RETIRED_S / 50) + 2):
        publisher.publish({KEY: counts(10)})
        clock.now += 50
        store.retire(lambda before, gone: ended({KEY: SHAPE}, before, gone))
    assert [row.gateway for row in store.published()] == ["a"]


def test_counts_of_another_reference_are_no_rows_of_this_one(store: EvidenceStore) -> None:
    other = Shape("another", SHAPE.layout)
    Publisher(store, "a").publish({KEY: Counts(other, counts(9).words, 1, counts(0, 4).block)})
    Publisher(store, "b").publish({KEY: counts(5, 1)})
    assert total(store)[:2] == (5, 5)


def test_what_is_not_served_any_more_is_forgotten(store: EvidenceStore, clock: Clock) -> None:
    Publisher(store, "a").publish({KEY: counts(5), ("m", "2"): counts(3)})
    clock.now += RETIRED_S + 1
    store.retire(lambda before, gone: ended({KEY: SHAPE}, before, gone))
    store.forget({KEY})
    assert [(row.version, row.gateway) for row in store.published()] == [("1", "")]


class Shaky(EvidenceStore):
    """Fails as it is told to: before the write, or after it as a lost answer does."""

    fails = ""

    def publish(self, gateway: str, served: Collection[Key], make: Make) -> None:
        def failing(present: set[Key]) -> Sequence[Published]:
            make(present)
            raise NotReady("away")

        super().publish(gateway, served, failing if self.fails == "before" else make)
        if self.fails == "after":
            raise NotReady("away")


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["", "before", "after", "ended"]), st.integers(0, 9)), max_size=10))
def test_no_failure_loses_or_doubles_what_was_counted(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    clock, folder = Clock(), tmp_path_factory.mktemp("publication")
    store = Shaky(leading(open_database(f"sqlite:///{folder / 'registry.db'}", 5.0)), clock)
    publisher, rows = Publisher(store, "a"), 0
    for fails, more in steps:
        rows += more
        if fails == "ended":
            store.fails = ""
            publisher.publish({KEY: counts(rows)})
            clock.now += RETIRED_S + 1
            store.retire(lambda before, gone: ended({KEY: SHAPE}, before, gone))
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
