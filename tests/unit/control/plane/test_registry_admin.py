"""One gateway's registry as people change and see it: pushed, moved, retired; shown also without the database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.control.audit.admin import AuditAdmin
from penstock.control.audit.recorder import AuditRecorder
from penstock.control.calls.blocking import BlockingPool
from penstock.control.plane import registry_admin
from penstock.control.plane.model_view import ModelView
from penstock.control.plane.registry_admin import RegistryAdmin, RegistryAdminServices
from penstock.control.reconcile import status
from penstock.control.reconcile.planner import ControllerState
from penstock.control.reconcile.reconciler import Reconciler
from penstock.control.sources.registry import RegistrySource
from penstock.core.desired import VersionStatus
from penstock.core.errors import Conflict, InvalidInput, NotFound, NotReady, Overloaded, Refused, Unsupported
from penstock.registry.auditing import RegistryAudit
from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.db.database import open_database
from penstock.registry.location import location_of
from penstock.registry.records import AdmissionReport, Author, Document, ExaminedContent, PreparationPlan
from penstock.registry.registry import Registry
from penstock.registry.stores.archived_audit import ArchivedAudit
from penstock.registry.stores.snapshot import RegistrySnapshot
from penstock.registry.stores.versions import VersionStore
from tests.unit.control.reconcile.test_reconciler import FakeFleet

ANN = Author("ann", "because")


class Admission:
    """Admits whatever does not say no."""

    async def plan(self, subject: ExaminedContent) -> PreparationPlan:
        return PreparationPlan()

    async def examine(self, subject: ExaminedContent) -> AdmissionReport:
        return AdmissionReport("it says no" if subject.graph.read_bytes() == b"no" else "", {"memory_bytes": 1})


class Gateway:
    """A registry in a folder, and two workers that load what they are told."""

    def __init__(self, home: Path) -> None:
        place = location_of("", home, "")
        self.database = open_database(place.database, 5.0)
        self.store = VersionStore(self.database)
        self.snapshot = RegistrySnapshot(self.store, place.snapshot_file)
        blobs = FolderBlobs(Path(place.blobs))
        registry = Registry(place, self.store, blobs, 1 << 20)
        archived = ArchivedAudit(self.store.connections, lambda: blobs)
        self.source = RegistrySource(self.snapshot, registry.layout)
        self.fleet = FakeFleet()
        self.fleet.reconciler = self.reconciler = Reconciler(self.source, self.fleet, ControllerState(), 20, 5.0)
        audit = RegistryAudit(self.database, lambda: blobs, place.audit_key, place.audit_checkpoints)
        auditing = AuditAdmin(audit, AuditRecorder(self.store))
        parts = RegistryAdminServices(
            self.store, self.snapshot, registry, self.source, Admission(), 30.0, archived, auditing
        )
        self.admin = RegistryAdmin(parts, self.reconciler, self)

    def statuses(self) -> list[VersionStatus]:
        return status.find_statuses(self.reconciler.desired, self.fleet.reports, self.fleet.workers)

    def signature(self, model: str, version: str) -> Mapping[str, Any] | None:
        return None

    async def serve_changes(self) -> bool:
        await self.reconciler.refresh()
        return await self.reconciler.wait_applied(30.0)

    async def push(self, version: str, content: bytes = b"", metadata: Document | None = None) -> tuple[Document, bool]:
        async def chunks() -> AsyncIterator[bytes]:
            yield content or version.encode()

        return await self.admin.push("m", version, chunks(), metadata or {}, ANN)

    async def close(self) -> None:
        self.admin.close()
        await self.source.close()
        self.database.close()


def at(home: Path, act: Callable[[Gateway], Awaitable[None]]) -> None:
    async def run() -> None:
        gateway = Gateway(home)
        gateway.reconciler.begin([])
        try:
            await act(gateway)
        finally:
            await gateway.close()

    asyncio.run(run())


def aliases(document: Document) -> dict[str, str]:
    found: dict[str, str] = document["aliases"]
    return found


def test_a_version_is_new_once_and_refused_where_admission_refuses_it(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        shown, is_new = await gateway.push("1", metadata={"tags": {"team": "red"}})
        assert (shown["state"], shown["model"], is_new) == ("READY", "m", True)
        _, is_new = await gateway.push("1")
        assert not is_new
        with pytest.raises(Conflict):
            await gateway.push("1", b"other bytes")
        with pytest.raises(Refused, match="it says no"):
            await gateway.push("2", b"no")
        with pytest.raises(InvalidInput):
            await gateway.push("no version")
        assert [version["version"] for version in (await gateway.admin.model("m"))["versions"]] == ["1"]
        path, record = await gateway.admin.export("m", "1", ANN)
        assert (path.read_bytes(), record.created_by) == (b"1", "ann")

    at(tmp_path, act)


def test_an_alias_moves_and_goes_back_and_a_version_under_it_stays(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        for version in ("1", "2"):
            await gateway.push(version)
        for version, before in (("1", None), ("2", "1")):
            moved = await gateway.admin.alias("m", "champion", version, ANN, before)
            assert (moved["version"], moved["before"], moved["acknowledged"]) == (version, before, True)
        with pytest.raises(Conflict):
            await gateway.admin.alias("m", "champion", "1", ANN, "1")
        with pytest.raises(NotFound):
            await gateway.admin.alias("m", "champion", "9", ANN)
        with pytest.raises(Conflict):
            await gateway.admin.retire("m", "2", ANN)
        assert (await gateway.admin.rollback("m", ANN))["version"] == "1"
        retired = await gateway.admin.retire("m", "2", ANN)
        assert {version["version"]: version["state"] for version in retired["versions"]} == {
            "1": "READY",
            "2": "RETIRED",
        }
        await gateway.admin.drop_alias("m", "champion", ANN)
        assert aliases(await gateway.admin.model("m")) == {}
        actions = [entry["action"] for entry in await gateway.admin.audit("m", 0, 100)]
        assert actions[-3:] == ["alias.rollback", "version.retire", "alias.drop"]

    at(tmp_path, act)


def test_without_an_alias_the_first_rollback_leads_to_the_version_before_the_newest(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        for version in ("1", "2", "10"):
            await gateway.push(version)
        assert gateway.admin.view.ready("m") == ["1", "2", "10"]
        assert (await gateway.admin.rollback("m", ANN))["version"] == "2"
        with pytest.raises(NotFound):
            gateway.admin.view.ready("n")

    at(tmp_path, act)


def test_settings_change_by_what_is_named_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        await gateway.push("1")
        before = await gateway.admin.settings("m")
        after = await gateway.admin.configure("m", {"keep_warm_seconds": 5.0}, ANN)
        assert after == {**before, "keep_warm_seconds": 5.0, "revision": before["revision"] + 1}
        with pytest.raises(InvalidInput):
            await gateway.admin.configure("m", {"keep_warm_seconds": "soon"}, ANN)
        with pytest.raises(Conflict):
            await gateway.admin.configure("m", {}, ANN, if_revision=before["revision"])
        assert await gateway.admin.settings("m") == after

    at(tmp_path, act)


def test_damage_is_found_and_unneeded_content_is_not_damage(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        await gateway.push("1")
        lines = [line async for line in gateway.admin.verify()]
        assert lines[-2:] == [{"done": 1, "total": 1}, {"findings": []}]
        path, _ = await gateway.admin.export("m", "1", ANN)
        path.chmod(0o600)
        path.write_bytes(b"9")
        [*_, last] = [line async for line in gateway.admin.verify()]
        assert [finding["version"] for finding in last["findings"]] == ["1"]
        assert await gateway.admin.collect() == []

    at(tmp_path, act)


def test_a_model_has_the_features_of_its_versions(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        await gateway.push("1")
        [version] = (await gateway.admin.model("m"))["versions"]
        assert version["features"] == []
        gateway.admin.view.show_features(lambda model, version: (model, version))
        [version] = (await gateway.admin.model("m"))["versions"]
        assert version["features"] == ["m", "1"]

    at(tmp_path, act)


def test_what_mlflow_could_not_give_is_shown_and_its_calls_need_a_secret(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        await gateway.push("1")
        gateway.admin.view.show_mlflow_problems(lambda model: ["version 7 has no ONNX flavour"] if model == "m" else ())
        [document] = await gateway.admin.models()
        assert document["problem"] == "not taken over from MLflow: version 7 has no ONNX flavour"
        with pytest.raises(Unsupported):
            gateway.admin.mlflow_called({}, b"")
        calls: list[bytes] = []
        gateway.admin.set_mlflow_webhook(lambda _, body: calls.append(body))
        gateway.admin.mlflow_called({}, b"changed")
        assert calls == [b"changed"]

    at(tmp_path, act)


def test_models_are_shown_as_last_read_while_the_database_is_away(tmp_path: Path) -> None:
    class Away:
        """A database that nobody can read."""

        def revision(self) -> int:
            raise NotReady("the database is away")

        def models(self) -> list[Any]:
            raise NotReady("the database is away")

    async def act(gateway: Gateway) -> None:
        await gateway.push("1")
        reads = BlockingPool("reads", 1)
        away = RegistrySnapshot(Away(), tmp_path / "none.json")
        with pytest.raises(NotReady, match="away"):
            await ModelView(away, gateway.reconciler, gateway, reads, in_folder=False).models()
        folder = ModelView(away, gateway.reconciler, gateway, reads, in_folder=True)
        [shown] = await folder.models()
        assert [(version["version"], version["state"]) for version in shown["versions"]] == [("1", "READY")]
        known = RegistrySnapshot(Away(), location_of("", tmp_path, "").snapshot_file)
        [shown] = await ModelView(known, gateway.reconciler, gateway, reads, in_folder=False).models()
        assert shown["revision"] > 0
        with pytest.raises(NotFound):
            await folder.model("n")
        assert (await gateway.admin.identity())["writable"]
        reads.close()

    at(tmp_path, act)


def test_no_more_versions_are_pushed_at_a_time_than_there_are_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_admin, "PUSHES", 1)

    async def act(gateway: Gateway) -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            begun.set()
            await release.wait()
            yield b"1"

        first = asyncio.create_task(gateway.admin.push("m", "1", slow(), {}, ANN))
        await begun.wait()
        with pytest.raises(Overloaded, match="1 versions are being pushed already"):
            await gateway.push("2")
        release.set()
        await first
        assert (await gateway.push("2"))[1]  # its place is free again

    at(tmp_path, act)


def test_a_gateway_that_serves_a_folder_takes_no_versions(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        parts = replace(gateway.admin._parts, registry=None, source=None)
        folder = RegistryAdmin(parts, gateway.reconciler, gateway)
        with pytest.raises(Unsupported, match="this gateway serves a folder"):
            await folder.push("m", "1", chunks_of(b"1"), {}, ANN)
        folder.close()

    at(tmp_path, act)


async def chunks_of(content: bytes) -> AsyncIterator[bytes]:
    yield content


def test_only_a_version_that_is_ready_can_answer(tmp_path: Path) -> None:
    async def act(gateway: Gateway) -> None:
        gateway.fleet.answer = lambda _, version: "it does not fit" if version == "2" else ""
        await gateway.push("1")
        assert (await gateway.push("2"))[0]["state"] == "UNAVAILABLE"
        view = gateway.admin.view
        view.refuse_unready("m", "1")
        for model, version, fault in (("n", "1", NotFound), ("m", "9", NotFound), ("m", "2", Refused)):
            with pytest.raises(fault):
                view.refuse_unready(model, version)

    at(tmp_path, act)
