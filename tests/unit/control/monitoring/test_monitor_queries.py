"""What people ask of the monitor: a few columns, one column with its evidence over time, faults of texts."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from penstock.control.monitoring.monitor_queries import MonitorQueries
from penstock.core.errors import InvalidInput, NotFound, NotReady, Unsupported
from penstock.core.policy_faults import PolicyFault, PolicyText, UnreadableText
from penstock.core.versions import VersionKey
from penstock.monitor.shown_columns import ALL_COLUMNS, ShownColumns
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.records import Document
from penstock.registry.stores.evidence import VersionVerdict
from tests.unit.control.test_monitoring import POLICY, Watcher, trained
from tests.unit.control.trials import ME, World


@pytest.fixture
def drifting(tmp_path: Path) -> Watcher:
    """A monitor that has seen one column of five drift."""
    watcher = Watcher(World(tmp_path), tmp_path)
    watcher.give(trained())
    asyncio.run(watcher.monitoring.set_policy("m", POLICY, ME))
    for _ in range(20):
        watcher.send(trained(), 40)
    for _ in range(20):
        watcher.send(trained(), 40, shift=1.0)
    return watcher


def ask(watcher: Watcher, name: str, version: str | None = "1", scope: str = "fleet") -> Document:
    return asyncio.run(watcher.monitoring.column("m", version, name, scope))


def test_a_document_has_at_most_so_many_columns_and_of_one_version(drifting: Watcher) -> None:
    whole = drifting.show(None)
    assert "versions" in whole
    assert whole["versions"]["1"]["columns"] == {"all": 5, "drifting": 1, "shown": 5}
    answering = asyncio.run(drifting.monitoring.document("m", None, shown=ShownColumns(2)))
    assert (answering["version"], answering["features"], "versions" in answering) == ("3", [], False)
    few = asyncio.run(drifting.monitoring.document("m", "1", shown=ShownColumns(2)))
    assert few["columns"] == {"all": 5, "drifting": 1, "shown": 2}
    assert [len(few["features"]) + len(few["outputs"]), few["features"][0]["name"]] == [2, "x[0]"]
    found = asyncio.run(drifting.monitoring.document("m", "1", shown=ShownColumns(9, "Y")))
    assert found["features"] == []
    assert {item["name"] for item in found["outputs"]} == {"y", "y.top"}
    assert found["joint"] == drifting.show()["joint"]
    assert set(found["latency"]["stages"]) == {"decode", "queue", "run", "encode"}


def test_a_column_has_its_evidence_over_time(drifting: Watcher) -> None:
    found = ask(drifting, "x[0]")
    assert (found["scope"], found["version"], found["column"]["state"]) == ("gateway", "1", "drift")
    history = found["history"]
    assert max(history["log_e"]) >= found["log_e_threshold"]  # the alarm's, though it has begun anew since
    assert history["at"] == sorted(history["at"])
    assert history["psi"][-1] > 0.1
    assert found["moments"]["std"] == pytest.approx(1.0, abs=0.05)
    assert set(found["rates"]) == set(found["reference_rates"])
    assert found["slices"] == {}
    quiet = ask(drifting, "x[1]", "1", "gateway")
    assert max(quiet["history"]["log_e"]) < quiet["log_e_threshold"]
    assert ask(drifting, "y")["rates"] is None


def test_what_is_unknown_is_refused(drifting: Watcher) -> None:
    with pytest.raises(NotFound, match="no column 'z'"):
        ask(drifting, "z")
    with pytest.raises(NotFound, match="no version '9'"):
        ask(drifting, "x[0]", "9")
    with pytest.raises(NotFound):  # it is not watched yet
        ask(drifting, "x[0]", None)
    with pytest.raises(InvalidInput, match="scope"):
        ask(drifting, "x[0]", "1", "world")


def test_the_policy_has_the_revision_that_a_change_rests_on(drifting: Watcher) -> None:
    shown = asyncio.run(drifting.monitoring.policy("m"))
    assert shown["revision"] == drifting.world.store.model("m").revision
    assert shown["monitor"]["window_seconds"] == 60


def read(text: str) -> PolicyText:
    if text == "broken":
        raise UnreadableText(PolicyFault("it is not valid YAML", "", 3))
    return PolicyText({"monitor": {"sample": float(text)}}, {"": 1, "monitor": 1, "monitor.sample": 2})


def test_a_policy_text_is_checked_line_by_line_and_not_stored(drifting: Watcher) -> None:
    before = drifting.world.store.model("m").revision
    with pytest.raises(Unsupported, match="as JSON only"):
        asyncio.run(drifting.monitoring.check_policy("m", "1"))
    drifting.monitoring._read_text = read
    good = asyncio.run(drifting.monitoring.check_policy("m", "0.5"))
    assert good == {"valid": True, "faults": [], "policy": {"monitor": {"sample": 0.5}}}
    bad = asyncio.run(drifting.monitoring.check_policy("m", "7"))
    assert not bad["valid"]
    (fault,) = bad["faults"]
    assert (fault["line"], fault["path"]) == (2, "monitor.sample")
    broken = asyncio.run(drifting.monitoring.check_policy("m", "broken"))
    assert broken == {
        "valid": False,
        "faults": [{"line": 3, "path": "", "message": "it is not valid YAML"}],
        "policy": None,
    }
    with pytest.raises(NotFound):
        asyncio.run(drifting.monitoring.check_policy("n", "1"))
    assert drifting.world.store.model("m").revision == before


class StoredEvidence:
    """A fleet's evidence as a gateway sees it that leads, or reads what the leader has stored; None for no verdict."""

    def __init__(self, leading: VersionMonitor | None, stored: VersionVerdict | NotReady | None) -> None:
        self.leading, self.stored = leading, stored

    def monitor(self, _: VersionKey) -> VersionMonitor | None:
        return self.leading

    def describe(self, _: VersionKey) -> Document | None:
        return None

    async def document(self, _: VersionKey, shown: ShownColumns = ALL_COLUMNS) -> Document | None:
        verdict = await self.verdict(_)
        return None if verdict is None else verdict.document

    async def verdict(self, _: VersionKey) -> VersionVerdict | None:
        if isinstance(self.stored, NotReady):
            raise self.stored
        return self.stored


def stored_by_leader(watcher: Watcher, release: str = "this") -> VersionVerdict:
    """What the leader has stored; an older release stored no evidence over time."""
    monitor = watcher.monitoring._detection.monitor(("m", "1"))
    assert monitor is not None
    rows = {name: part for name, part in monitor.export_state().items() if release == "this" or name != "history"}
    document = {name: part for name, part in watcher.show().items() if name != "scope"}
    return VersionVerdict("layout", 1, {"rows": rows}, {}, document)


def ask_in_fleet(watcher: Watcher, evidence: StoredEvidence, name: str = "x[0]") -> Document:
    monitoring = watcher.monitoring
    parts: Any = (
        monitoring._workers,
        monitoring._versions,
        monitoring._detection,
        evidence,
        lambda _: [],
        monitoring._attributions,
    )
    return asyncio.run(MonitorQueries(*parts).column("m", "1", name))


def test_in_a_fleet_a_column_comes_from_the_leader_or_from_what_it_has_stored(drifting: Watcher) -> None:
    own = drifting.monitoring._detection.monitor(("m", "1"))
    led = ask_in_fleet(drifting, StoredEvidence(own, None))
    assert (led["scope"], led["column"]["state"]) == ("fleet", "drift")
    assert led["history"]["at"]
    stored = ask_in_fleet(drifting, StoredEvidence(None, stored_by_leader(drifting)))
    assert (stored["scope"], stored["column"]["state"]) == ("fleet", "drift")
    assert stored["history"]["at"] == led["history"]["at"]
    assert stored["history"]["log_e"] == pytest.approx(led["history"]["log_e"], rel=1e-3, abs=1e-3)
    assert ask_in_fleet(drifting, StoredEvidence(None, stored_by_leader(drifting, "older")))["history"] is None
    assert (
        ask_in_fleet(drifting, StoredEvidence(None, stored_by_leader(drifting)), "(joint)")["column"]["name"]
        == "(joint)"
    )
    with pytest.raises(NotFound, match="no column 'z'"):
        ask_in_fleet(drifting, StoredEvidence(None, stored_by_leader(drifting)), "z")
    for unknown in (None, NotReady("the database is away")):
        alone = ask_in_fleet(drifting, StoredEvidence(None, unknown))
        assert (alone["scope"], alone["history"] is None) == ("gateway", False)


def test_a_document_of_the_fleet_is_limited_too(drifting: Watcher) -> None:
    monitoring, evidence = drifting.monitoring, StoredEvidence(None, stored_by_leader(drifting))
    parts: Any = (
        monitoring._workers,
        monitoring._versions,
        monitoring._detection,
        evidence,
        lambda _: ["it is odd"],
        monitoring._attributions,
    )
    found = asyncio.run(MonitorQueries(*parts).document("m", "1", shown=ShownColumns(1)))
    assert (found["scope"], found["problem"], found["columns"]["shown"]) == ("fleet", "it is odd", 1)
