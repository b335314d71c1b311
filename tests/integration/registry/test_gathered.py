"""What gateways hand in to learn a reference of, over SQLite and PostgreSQL: where it stands, and that it goes."""

from collections.abc import Iterator

import pytest

from penstock.core.live_references import Contribution, GatheringState
from penstock.registry.db.database import Database, open_database
from penstock.registry.db.lease import NotLeading
from penstock.registry.records import Author
from penstock.registry.stores.gateways import GatewayDescription, GatewayStore
from penstock.registry.stores.monitor import MonitorStore, ReferenceRecord
from penstock.registry.stores.traffic import TrialEvent
from tests.integration.registry.test_store import database
from tests.leases import leading, looking

__all__ = ["database"]

ONE, TWO = ("m", "1"), ("m", "2")
ME = Author("me", "a test")
LEARNED = ReferenceRecord(*ONE, "sha256:ab", "live")


@pytest.fixture
def store(database: Database) -> MonitorStore:
    return MonitorStore(leading(database, "a"))


@pytest.fixture
def other(database: Database, url: str) -> Iterator[MonitorStore]:
    """Of a gateway that does not lead."""
    opened = looking(open_database(url, 5.0), "b")
    yield MonitorStore(opened)
    opened.close()


def test_submitted_rows_are_stored_until_a_reference_is(
    store: MonitorStore, other: MonitorStore, database: Database
) -> None:
    for name, serves in (("a", {"m": ["1"]}), ("b", {"m": ["2", "1"]}), ("c", {"m": ["2"], "n": ["1"]})):
        GatewayStore(database).beat(GatewayDescription(name, "host", "1.0", 0.0, 0, serves))
    assert store.gathered.open() == {}
    store.gathered.submit(ONE, Contribution(3, 30), b"rows")
    store.gathered.submit(ONE, Contribution(5, 50), b"more rows")
    other.gathered.submit(ONE, Contribution(2, 20), b"other rows")
    other.gathered.submit(TWO, Contribution(7, 70), b"")
    other.gathered.update_answered(ONE, 21)
    found = other.gathered.open()
    assert {key: item.contributions for key, item in found.items()} == {
        ONE: {"a": Contribution(5, 50), "b": Contribution(2, 21)},
        TWO: {"b": Contribution(7, 70)},
    }
    assert [sorted(item.serving) for item in found.values()] == [["a", "b"], ["b", "c"]]
    assert all(0 <= item.age_s < 60 and not item.has_reference for item in found.values())
    assert (store.gathered.rows(ONE, "b"), store.gathered.rows(ONE, "c")) == (b"other rows", None)
    with pytest.raises(NotLeading):
        other.set_learned(LEARNED, {}, ME)
    store.set_learned(LEARNED, {"by": "a"}, ME)
    other.gathered.submit(ONE, Contribution(9, 90), b"too late")
    assert list(store.gathered.open()) == [TWO]
    store.set_learned(ReferenceRecord(*ONE, "sha256:cd", "live"), {"by": "nobody"}, ME)
    assert store.reference(*ONE) == {"by": "a"}
    with pytest.raises(NotLeading):
        other.gathered.discard(TWO)
    store.gathered.discard(TWO)
    assert store.gathered.open() == {}


def test_rows_after_the_reference_are_reported_and_deleted_with_it(store: MonitorStore, other: MonitorStore) -> None:
    store.gathered.submit(ONE, Contribution(3, 30), b"rows")
    packed = store.gathered.rows(ONE, "a")
    store.set_reference(LEARNED, {}, ME)
    store.drop_reference(*ONE, TrialEvent("reference.relearned.v1", "models/m/versions/1", "1", {}), ME)
    assert packed
    other.gathered.submit(ONE, Contribution(3, 30), packed)
    assert isinstance(store.gathered.open()[ONE], GatheringState)
    other.set_reference(LEARNED, {}, ME)
    assert store.gathered.open() == {}
