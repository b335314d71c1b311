"""Stand-ins for the ops plane's neighbours: a control plane with two models, and a registry in memory."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from penstock.api.admin.admin import Document
from penstock.control.plane.predictions import PredictionAnswer, PredictionRequest
from penstock.control.reconcile.status import Readiness
from penstock.core.access.callers import ANONYMOUS, Caller
from penstock.core.access.model_filter import EVERY_MODEL, ModelFilter
from penstock.core.desired import ReadyState, VersionStatus
from penstock.core.erasure import SubjectKey
from penstock.core.errors import Conflict, Fault, InvalidInput, NotFound, Refused, Unauthorised, unknown_model
from penstock.monitor.shown_columns import ALL_COLUMNS, ShownColumns
from penstock.registry.records import Author, Content, VersionRecord
from penstock.registry.stores.aliases import ANY, Expected
from penstock.registry.stores.timeline import TimelineFilter
from penstock.telemetry.metrics import REQUESTS
from penstock.telemetry.readings import Point, Reading
from tests.unit.api.admin.monitor_documents import (
    column_view,
    monitor_document,
    retraining_document,
    timeline_entries,
)

BAD_BYTES = b"no graph"


class FakeControl:
    """One good model and a bad one."""

    def __init__(self) -> None:
        self.ready = True
        self.problems: dict[str, str] = {}
        self.tasks = {"routes": "", "rules": "it is <overdue>"}

    def task_problems(self) -> dict[str, str]:
        return self.problems

    def readiness(self) -> Readiness:
        reason = "" if self.ready else "1 of 2 <workers> are ready"
        return Readiness(self.ready, 2 if self.ready else 1, 2, {"READY": 1, "UNAVAILABLE": 1}, reason)

    def statuses(self) -> list[VersionStatus]:
        return [
            VersionStatus("good", "1", ReadyState.READY),
            VersionStatus("<bad>", "", ReadyState.UNAVAILABLE, "no <version>"),
        ]

    def worker_states(self) -> list[tuple[int, str]]:
        return [(4711, "ready"), (0, "absent")]

    def process_document(self) -> Document:
        memory = {"budget_bytes": 100, "used_bytes": 7}
        workers = [
            {"worker": 0, "pid": 4711, "state": "ready", "memory": memory},
            {"worker": 1, "pid": 0, "state": "absent", "memory": None},
        ]
        tasks = [{"name": name, "last_success": 5.0, "failures": 2, "problem": why} for name, why in self.tasks.items()]
        return {"workers": workers, "tasks": tasks}

    def readings(self) -> Iterable[Reading]:
        return [Point(REQUESTS, ("good", "1", "stable", "rest", "200"), 5)]


class MemoryRegistrar:
    """A registry's rules without its parts: names, contents by digest, compare-and-set, and an audit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.revisions: dict[str, int] = {}
        self.versions: dict[tuple[str, str], Document] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.kept: dict[str, Document] = {}
        self.changes: list[Document] = []
        self.contents: dict[str, bytes] = {}
        self.most_held = 0
        self.fault: Exception | None = None
        self.calls: list[tuple[Mapping[str, str], bytes]] = []
        self.auditing = MemoryAudit()

    def _look(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _compare(self, model: str, if_revision: int | None) -> None:
        present = self.revisions.get(model, 0)
        if if_revision is not None and if_revision != present:
            raise Conflict(f"model '{model}' is at revision {present}, not {if_revision}; look again")

    def _changed(self, model: str, action: str, subject: str, by: Author) -> int:
        entry = {"seq": len(self.changes) + 1, "action": action, "subject": subject, "model": model}
        self.changes.append({**entry, "actor": by.actor, "reason": by.reason})
        self.revisions[model] = len(self.changes)
        return self.revisions[model]

    async def models(self) -> list[Document]:
        self._look()
        return [await self.model(name) for name in sorted(self.revisions)]

    async def model(self, name: str) -> Document:
        self._look()
        if name not in self.revisions:
            raise unknown_model(name)
        return {
            "name": name,
            "revision": self.revisions[name],
            "aliases": {alias: version for (model, alias), version in self.aliases.items() if model == name},
            "settings": self.kept.get(name, {"versions": "all"}),
            "versions": [
                {
                    **version,
                    "aliases": [a for (m, a), v in self.aliases.items() if m == name and v == version["version"]],
                }
                for (model, _), version in self.versions.items()
                if model == name
            ],
        }

    async def push(
        self,
        model: str,
        version: str,
        chunks: AsyncIterator[bytes],
        metadata: Document,
        by: Author,
        if_revision: int | None = None,
    ) -> tuple[Document, bool]:
        self._look()
        if not version[:1].isdigit():
            raise InvalidInput("a version begins with a digit")
        received = bytearray()
        async for chunk in chunks:
            self.most_held = max(self.most_held, len(chunk))
            received += chunk
        if bytes(received) == BAD_BYTES:
            raise Refused("it holds no ONNX graph")
        digest = f"sha256:{hashlib.sha256(received).hexdigest()}"
        present = self.versions.get((model, version))
        if present is not None:
            if present["digest"] != digest:
                raise Conflict("it exists with another content")
            return {**present, "model": model, "revision": self.revisions[model]}, False
        self._compare(model, if_revision)
        one = {"version": version, "state": "READY", "reason": "", "digest": digest, "metadata": metadata}
        one["created_by"] = by.actor
        self.versions[model, version] = one
        self.contents[digest] = bytes(received)
        revision = self._changed(model, "version.add", version, by)
        return {**one, "model": model, "revision": revision}, True

    async def add_signature(self, model: str, version: str, bundle: str, by: Author) -> Document:
        self._look()
        self._changed(model, "signature.add", f"versions/{version}/signatures", by)
        return {"model": model, "version": version, "digest": hashlib.sha256(bundle.encode()).hexdigest()}

    async def approve(self, model: str, version: str, by: Author) -> Document:
        self._look()
        self._changed(model, "version.approve", f"versions/{version}", by)
        return self.versions[model, version]

    async def gates(self, model: str, version: str) -> Document:
        self._look()
        return {"model": model, "version": version, "passed": True, "gates": []}

    async def retire(
        self, model: str, version: str, by: Author, if_revision: int | None = None, force: bool = False
    ) -> Document:
        self._compare(model, if_revision)
        if (model, version) not in self.versions:
            raise NotFound(f"model '{model}' has no version '{version}'")
        self.versions[model, version]["state"] = "RETIRED"
        self._changed(model, "version.retire", version, by)
        return await self.model(model)

    async def export(self, model: str, version: str, by: Author) -> tuple[Path, VersionRecord]:
        self._look()
        self._changed(model, "version.export", f"versions/{version}", by)
        found = self.versions.get((model, version))
        if found is None:
            raise NotFound(f"model '{model}' has no version '{version}'")
        path = self.folder / "content"
        path.write_bytes(self.contents[found["digest"]])
        content = Content(found["digest"], path.stat().st_size, "onnx", ())
        return path, VersionRecord(model, version, content, "2026-11-20T10:00:00.000+00:00", "ann")

    async def alias(
        self,
        model: str,
        alias: str,
        version: str,
        by: Author,
        expected: Expected = ANY,
        if_revision: int | None = None,
        force: bool = False,
    ) -> Document:
        self._compare(model, if_revision)
        if (model, version) not in self.versions:
            raise NotFound(f"model '{model}' serves no version '{version}'")
        before = self.aliases.get((model, alias))
        if expected is not ANY and before != expected:
            raise Conflict(f"alias '{alias}' points to {before}")
        self.aliases[model, alias] = version
        return self._moved(model, alias, before, self._changed(model, "alias.move", alias, by))

    async def drop_alias(
        self, model: str, alias: str, by: Author, if_revision: int | None = None, force: bool = False
    ) -> Document:
        self._compare(model, if_revision)
        if (model, alias) not in self.aliases:
            raise NotFound(f"model '{model}' has no alias '{alias}'")
        before = self.aliases.pop((model, alias))
        return self._moved(model, alias, before, self._changed(model, "alias.drop", alias, by))

    async def rollback(
        self, model: str, by: Author, alias: str = "champion", if_revision: int | None = None, force: bool = False
    ) -> Document:
        self._compare(model, if_revision)
        if (model, alias) not in self.aliases:
            raise Conflict("there is nothing to go back to")
        return self._moved(model, alias, None, self._changed(model, "alias.rollback", alias, by))

    def _moved(self, model: str, alias: str, before: str | None, revision: int) -> Document:
        after = self.aliases.get((model, alias))
        return {"model": model, "alias": alias, "version": after, "before": before, "revision": revision}

    async def settings(self, model: str) -> Document:
        document = await self.model(model)
        return {**document["settings"], "revision": document["revision"]}

    async def configure(self, model: str, document: Document, by: Author, if_revision: int | None = None) -> Document:
        self._compare(model, if_revision)
        self.kept[model] = {**self.kept.get(model, {}), **document}
        self._changed(model, "model.configure", "settings", by)
        return await self.settings(model)

    async def verify(self) -> AsyncIterator[Document]:
        self._look()
        yield {"done": 0, "total": 1}
        yield {"done": 1, "total": 1}
        yield {"findings": []}

    async def collect(self) -> list[str]:
        self._look()
        return ["sha256:aa"]

    async def audit(
        self, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[Document]:
        self._look()
        found = [change for change in self.changes if model in (None, change["model"])]
        found = [change for change in found if visible.allows(change["model"])]
        return found[-limit:] if after is None else [item for item in found if item["seq"] > after][:limit]

    async def audit_archives(self) -> list[Document]:
        self._look()
        return [{"name": "1-2", "rows": 2}]

    async def archived_audit(
        self, name: str, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[Document]:
        if name != "1-2":
            raise NotFound(f"the audit has no archive '{name}'")
        return (await self.audit(model, after, limit, visible))[:2]

    async def identity(self) -> Document:
        return {"id": "memory", "source": "registry", "writable": True, "problem": "", "repositories": [{"name": "/m"}]}

    def mlflow_called(self, headers: Mapping[str, str], body: bytes) -> None:
        self._look()
        self.calls.append((headers, body))


class MemoryAudit:
    """An audit that answers what it was given; see ``audit.AuditService``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.fault: Fault | None = None

    async def verify(self, checkpoints: str, keys: Sequence[str]) -> Document:
        self.calls.append(("verify", checkpoints, *keys))
        return {"ok": True, "findings": []}

    async def keys(self) -> Document:
        return {"keys": ["penstock/x+00000000+AQ=="]}

    async def checkpoint(self) -> str:
        raise NotFound("no checkpoint yet")

    async def prove(self, seq: int) -> str:
        return f"index {seq - 1}\n"

    async def explain(self, model: str, at: str) -> Document:
        return {"model": model, "at": at}

    async def export(self, by: Author) -> AsyncIterator[bytes]:
        if self.fault is not None:
            raise self.fault
        self.calls.append(("export", by.actor))
        yield b"{}\n"
        yield b"{}\n"


NO_PAIRS: Document = {
    "mirrored": 0,
    "pairs": 0,
    "disagreements": 0,
    "max_abs_diff": 0.0,
    "mean_abs_diff": None,
    "samples": [],
}
"""What a version has done as a shadow that never was one."""


class MemoryTraffic:
    """Routes in a dictionary; see ``traffic.Traffic``."""

    def __init__(self) -> None:
        self.routes: dict[str, Document] = {}
        self.shadows: dict[str, Document] = {}
        self.revision = 1

    async def route(self, model: str) -> Document:
        if model not in self.routes:
            raise unknown_model(model)
        return {**self.routes[model], "revision": self.revision}

    async def set_route(self, model: str, document: Document, by: Author, if_revision: int | None = None) -> Document:
        if if_revision is not None and if_revision != self.revision:
            raise Conflict("it has moved on")
        self.revision += 1
        self.routes[model] = {**document, "by": [by.actor, by.reason]}
        return await self.route(model)

    async def preview(self, model: str, document: Document) -> Document:
        return {"model": model, "asked": document}

    async def drop_route(self, model: str, by: Author, if_revision: int | None = None) -> Document:
        del self.routes[model]
        return {"revision": self.revision, "by": [by.actor, by.reason]}

    async def shadow(self, model: str, version: str) -> Document:
        return {"model": model, "version": version, **self.shadows.get(model, NO_PAIRS)}

    async def events(
        self, model: str | None, after: int | None, limit: int, visible: ModelFilter = EVERY_MODEL
    ) -> list[Document]:
        if after is not None and after > 2:
            raise InvalidInput("enough")  # ends the stream
        events: list[Document] = [
            {"sequence": number, "type": "io.penstock.test.v1", "subject": model or ""} for number in (1, 2, 3)
        ]
        events = [event for event in events if visible.allows(event["subject"] or f"m{event['sequence']}")]
        return [event for event in events if event["sequence"] > (after or 0)][:limit]

    async def timeline(self, wanted: TimelineFilter, limit: int, visible: ModelFilter = EVERY_MODEL) -> Document:
        asked = {**asdict(wanted), "limit": limit, "all": visible.is_everything}
        return {"entries": timeline_entries(), "next": "5-9", "asked": asked}

    async def newest_entries(self) -> dict[str, str]:
        return {"good": "5-9"}


BEGUN: Document = {
    "from": "1",
    "to": "2",
    "state": "running",
    "weight": 100,
    "created_at": "2026-11-30T10:00:00+00:00",
    "created_by": "ann",
    "reason": "",
    "progress": [],
    "warnings": [],
    "evidence": {},
    "arms": {},
    "best": None,
    "changes": [],
}
"""What the pages show of a rollout and of an experiment that has begun."""


class MemoryTrials:
    """Trials in a dictionary; see ``traffic.Trials``."""

    def __init__(self) -> None:
        self.trials: dict[str, Document] = {}

    async def begin(self, model: str, document: Document, by: Author) -> Document:
        stated = {"id": "t1", "model": model, "asked": document, "by": [by.actor, by.reason], "revision": 1}
        self.trials["t1"] = {**BEGUN, **stated}
        return self.trials["t1"]

    async def preview(self, model: str, document: Document, rate: float | None = None) -> Document:
        return {"model": model, "asked": document, "rate": rate}

    async def list_trials(self, model: str) -> list[Document]:
        return [trial for trial in self.trials.values() if trial["model"] == model]

    async def get_trial(self, model: str, trial_id: str) -> Document:
        if trial_id not in self.trials:
            raise NotFound("no such trial")
        return self.trials[trial_id]

    async def act(self, model: str, trial_id: str, verb: str, by: Author) -> Document:
        self.trials[trial_id] = {**await self.get_trial(model, trial_id), "verb": verb, "by": [by.actor, by.reason]}
        return self.trials[trial_id]


class MemoryMonitor:
    """A monitor that says what it was asked; see ``traffic.Monitor``."""

    async def document(
        self, model: str, version: str | None, scope: str = "fleet", shown: ShownColumns = ALL_COLUMNS
    ) -> Document:
        if shown.most is None:
            return {"model": model, "version": version}
        document = {**monitor_document(model, version or "1"), "asked": [shown.most, shown.search]}
        return {**document, **{"none": {"version": None}, "new": {"reference": None}}.get(version or "", {})}

    async def column(self, model: str, version: str | None, name: str, scope: str = "fleet") -> Document:
        found = column_view(model, version, name, scope)
        return {**found, "history": None} if version == "stored" else found

    async def importance(self, model: str, version: str | None) -> Document:
        return {"model": model, "version": version, "features": []}

    async def policy(self, model: str) -> Document:
        return {"monitor": {"sample": 1.0}, "revision": 4}

    async def check_policy(self, model: str, text: str, caller: Caller = ANONYMOUS) -> Document:
        return {"valid": True, "faults": [], "policy": {"text": text, "caller": caller.name}}

    async def set_policy(
        self, model: str, document: Document, by: Author, if_revision: int | None = None, caller: Caller = ANONYMOUS
    ) -> Document:
        return {**document, "by": [by.actor, by.reason], "revision": (if_revision or 0) + 1}

    async def relearn(self, model: str, version: str | None, by: Author) -> Document:
        return {"model": model, "version": version, "by": [by.actor, by.reason], "revision": 5}

    async def learn(self, model: str, version: str, chunks: AsyncIterator[bytes], by: Author) -> Document:
        content = b"".join([chunk async for chunk in chunks])
        if not content:
            raise InvalidInput("no data")
        return {"digest": hashlib.sha256(content).hexdigest(), "revision": 3}


class MemoryCandidates:
    """Candidates that say what was asked of them; see ``traffic.Candidates``."""

    async def to_api(self, model: str) -> Document:
        return {"model": model, "candidates": []}

    async def approve(self, model: str, version: str, by: Author) -> Document:
        return {"model": model, "approved": version, "by": [by.actor, by.reason]}

    async def refuse(self, model: str, version: str, by: Author) -> Document:
        return {"model": model, "refused": version, "by": [by.actor, by.reason]}


class MemoryFleet:
    """A fleet of one; see ``traffic.Fleet``."""

    async def document(self) -> Document:
        return {"leader": "a", "gateways": [{"id": "a", "serves": {"digits": ["1"], "fraud-1": ["1"]}}]}


class MemoryOverview:
    """Three models at a glance; see ``overview.OverviewService``."""

    def __init__(self) -> None:
        quiet = {"drift": None, "quality": None, "trial": None, "event": None}
        drift, quality = {"state": "drift", "columns": 2}, {"state": "ok", "columns": 0}
        trial = {"id": "t<1>", "kind": "rollout", "to": "2", "state": "running"}
        event = {"type": "io.penstock.drift.detected.v1", "time": "2026-11-30T10:00:00.000Z", "sequence": 3}
        busy = {"drift": drift, "quality": quality, "trial": trial, "event": {**event, "subject": "models/good"}}
        bad = {"split": {}, "versions": 0, "states": {"UNAVAILABLE": 1}, "reason": "no <version>", **quiet}
        good = {"split": {"1": 9550, "2": 450}, "versions": 2, "states": {"READY": 2}, "reason": "", **busy}
        self.models = [{"name": "<bad>", **bad}, {"name": "digits", **good}, {"name": "good", **good}]

    async def document(self) -> Document:
        return {"models": self.models}


class MemoryRecent:
    """Traffic of two models, and ``more``; see ``recent_traffic.RecentTrafficService``."""

    def __init__(self) -> None:
        self.more: dict[str, Document] = {}

    def document(self) -> Document:
        return {"at": 1.0, "models": {"digits": self.model_document("digits"), "fraud-1": {}, **self.more}}

    def activity(self, model: str) -> int:
        return 0

    def model_document(self, model: str) -> Document:
        if model != "digits":
            raise unknown_model(model)
        return {"requests_per_second": 2.0}


class MemoryRetraining:
    """Retraining that says what it was asked; see ``traffic.Retraining``."""

    candidates = MemoryCandidates()

    async def ask(self, model: str, document: Document, by: Author) -> Document:
        return {"model": model, **document, "by": [by.actor, by.reason]}

    async def document(self, model: str) -> Document:
        return retraining_document(model)

    async def deliveries(self, model: str) -> Document:
        return {"deliveries": [{"event": model}]}

    async def replay(self, model: str, by: Author, event: str | None = None, sink: str | None = None) -> Document:
        chosen = {name: value for name, value in (("event", event), ("sink", sink)) if value is not None}
        return {"deliveries": 1, "by": [by.actor, by.reason], **chosen}


class MemoryErasures:
    """Erasures that remember what they were asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, SubjectKey, Author]] = []

    async def forget(self, model: str | None, key: SubjectKey, by: Author) -> dict[str, Any]:
        self.asked.append((model, key, by))
        return {"removed": {"rows": 1}, "problems": [], "homes": {}, "missing": {}}


class MemoryPredictions:
    """Predictions that answer what was asked; see ``predictions.PredictionService``."""

    def __init__(self) -> None:
        self.asked: list[tuple[PredictionRequest, Caller]] = []

    def addresses(self) -> Document:
        return {"http": "127.0.0.1:1", "grpc": "127.0.0.1:2", "tls": False, "authentication": False}

    async def predict(self, request: PredictionRequest, caller: Caller) -> PredictionAnswer:
        self.asked.append((request, caller))
        fields = {"content-type": "application/json", "penstock-model-version": "1"}
        return PredictionAnswer(200 if request.body else 400, fields, request.body or b'{"error": "no body"}')

    async def explain_captured(
        self, model: str, version: str, request_id: str, parameters: Mapping[str, Any], caller: Caller
    ) -> PredictionAnswer:
        asked = {"model": model, "version": version, "id": request_id, "parameters": parameters}
        return PredictionAnswer(200, {"content-type": "application/json"}, json.dumps(asked).encode())


class MemoryKeys:
    """Keys that say what they were asked; see ``access.KeyService``."""

    async def list_keys(self, caller: Caller) -> list[Document]:
        return [{"name": "bot", "asked_by": caller.name}]

    async def create(self, values: Document, by: Author, caller: Caller) -> Document:
        return {**values, "by": by.actor, "asked_by": caller.name}

    async def rotate(self, name: str, values: Document, by: Author, caller: Caller) -> Document:
        return {"name": name, **values, "by": by.actor}

    async def revoke(self, name: str, by: Author, caller: Caller) -> list[Document]:
        if name == "unknown":
            raise NotFound("there is no such key")
        if name == "root":
            raise Unauthorised("you may not")
        return [{"name": name, "reason": by.reason}]
