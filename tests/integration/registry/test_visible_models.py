"""Lists of the database show the models that a pattern names, over SQLite and PostgreSQL, on full pages."""

import pytest

from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.registry.db.database import Database
from penstock.registry.records import Author
from penstock.registry.stores.events import TrialEvent
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import VersionStore
from tests.integration.registry.test_store import database

__all__ = ["database"]

MODELS = ("fraud-eu", "Fraud-us", "fraud%", "other", "fraud-eu", "other")
NARROW = ModelFilter(("fraud-*",))


@pytest.mark.parametrize(
    ("visible", "shown"),
    [
        (EVERY_MODEL, MODELS),
        (NARROW, ("fraud-eu", "fraud-eu")),
        (ModelFilter(("fraud%",)), ("fraud%",)),
        (ModelFilter(("fraud%*",)), ("fraud%",)),
        (ModelFilter(("other", "fraud-eu")), ("fraud-eu", "other", "fraud-eu", "other")),
        (ModelFilter(()), ()),
    ],
)
def test_audit_and_events_show_the_visible_models(
    visible: ModelFilter, shown: tuple[str, ...], database: Database
) -> None:
    versions, traffic = VersionStore(database), TrafficStore(database)
    for number, model in enumerate(MODELS):
        versions.note(model, "test", "x", Author("ann"), {})
        with database.writing() as connection:
            event = TrialEvent("test.v1", f"models/{model}", str(number), {})
            traffic.insert_event(connection, model, event)
    audit = [entry.subject.split("/")[1] for entry in versions.audit(visible=visible)]
    events = [event["subject"].split("/")[1] for event in traffic.events(visible=visible)]
    assert (tuple(audit), tuple(events)) == (shown, shown)
    newest = versions.audit(limit=1, visible=visible)
    assert [entry.subject.split("/")[1] for entry in newest] == list(shown[-1:])
    assert len(versions.audit(after=0, limit=2, visible=visible)) == min(2, len(shown))
    assert versions.audit("other", visible=NARROW) == [] and traffic.events("other", visible=NARROW) == []
