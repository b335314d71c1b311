"""The last known state of the registry: serving goes on while the database is away, in this process and the next."""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from penstock.core.errors import NotReady
from penstock.core.routing import decode_stored_route, encode_stored_route
from penstock.core.versions import VersionPolicy
from penstock.engine.durable_files import write_atomically
from penstock.registry.records import (
    AdmissionReport,
    AliasRecord,
    ApprovalRecord,
    Content,
    FileRecord,
    ModelRecord,
    ModelSettings,
    SignatureRecord,
    VersionRecord,
    VersionState,
)

log = logging.getLogger("penstock.registry")


class SnapshotReader(Protocol):
    """The reads of the registry's database that a snapshot needs."""

    def revision(self) -> int:
        """Return a number that grows by every change."""

    def models(self) -> list[ModelRecord]:
        """Return every model."""


class RegistrySnapshot:
    """Reads a store, and saves the last known state in ``file``. Calls block; any thread may make them.

    ``mark`` returns a mark that is another one after every change of the database, None if nobody knows. ``problem``
    says why the last read failed, "" if it did not.
    """

    def __init__(self, store: SnapshotReader, file: Path, mark: Callable[[], object] = lambda: None) -> None:
        self._store = store
        self._file = file
        self._mark = mark
        self._read_at: object = None
        self._revision: int | None = None
        self._models: list[ModelRecord] | None = None
        self._unreadable: dict[str, str] = {}
        self._unwritten = ""
        self._one_at_a_time = threading.Lock()
        self.problem = ""

    def models(self) -> list[ModelRecord]:
        """Return every model as it is now or, while the database is away, as it was last known.

        Raises:
            NotReady: the database is away and was never read.
        """
        with self._one_at_a_time:
            return self._read()

    def unchanged(self) -> list[ModelRecord] | None:
        """Return every model if the database has not changed since the last read, else None; does not block."""
        read_at = self._read_at
        return self._models if read_at is not None and self._mark() == read_at else None

    def present(self) -> list[ModelRecord]:
        """Return every model as it is now, for changes that depend on it.

        Raises:
            NotReady: the database is away.
        """
        with self._one_at_a_time:
            models = self._read()
            if self.problem:
                raise NotReady(self.problem)
            return models

    def last_known(self, problem: str) -> list[ModelRecord] | None:
        """Return what this process last read, for a read that takes too long (``problem`` says so); does not block."""
        self.problem = problem
        return self._models

    def last_stored(self, problem: str) -> list[ModelRecord] | None:
        """Return what this process or an earlier one last read, without waiting for a read in progress."""
        self.problem = problem
        return self._models or self._load()

    @property
    def revision(self) -> int:
        """The registry's revision at the last read, 0 while the database is away."""
        return self._revision or 0

    def _read(self) -> list[ModelRecord]:
        mark, self._read_at = self._mark(), None
        try:
            revision = self._store.revision()
            if self._models is None or revision != self._revision:
                self._models, self._revision = self._fill_unreadable(self._store.models()), revision
                self._save(self._models)
            self.problem, self._read_at = "", mark
        except NotReady as fault:
            self.problem, self._revision = str(fault), None
            if self._models is None:
                self._models = self._load()
            if self._models is None:
                raise
        return self._models

    def _fill_unreadable(self, models: list[ModelRecord]) -> list[ModelRecord]:
        """Replace models that cannot be read by their last known state."""
        problems = {model.name: model.problem for model in models if model.problem}
        for name in problems.keys() - self._unreadable.keys():
            log.error("model %s cannot be read; its last known state stays in use: %s", name, problems[name])
        self._unreadable = problems
        if not problems:
            return models
        before = {model.name: model for model in self._models or self._load() or ()}
        return [
            replace(before[model.name], problem=model.problem) if model.problem and model.name in before else model
            for model in models
        ]

    def _save(self, models: list[ModelRecord]) -> None:
        try:
            write_atomically(self._file, json.dumps([encode_model(model) for model in models]))
            self._unwritten = ""
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if reason != self._unwritten:
                log.warning("the last known state of the registry cannot be saved: %s", reason)
            self._unwritten = reason

    def _load(self) -> list[ModelRecord] | None:
        try:
            return [decode_model(values) for values in json.loads(self._file.read_text())]
        except (OSError, ValueError, KeyError, TypeError):
            return None


def encode_model(model: ModelRecord) -> dict[str, Any]:
    """Return a model as JSON values."""
    route = None if model.route is None else encode_stored_route(model.route)
    values = {**asdict(replace(model, route=None)), "route": route}
    for version in values["versions"].values():
        version["standing"] = version.pop("state")  # the name in the files of earlier releases
    return values


def decode_model(values: Mapping[str, Any]) -> ModelRecord:
    """Return a model from the JSON values of ``encode_model``."""
    settings = values["settings"]
    policy = settings["versions"]
    return ModelRecord(
        values["name"],
        values["revision"],
        {version: _decode_version(item) for version, item in values["versions"].items()},
        {
            alias: AliasRecord(item["alias"], item["version"], tuple(item["before"]))
            for alias, item in values["aliases"].items()
        },
        ModelSettings(
            VersionPolicy(policy["kind"], policy["latest"], tuple(policy["specific"])),
            settings["transition"],
            settings["keep_warm_s"],
        ),
        None if values["route"] is None else decode_stored_route(values["route"]),
        withheld=tuple(values.get("withheld", ())),
    )


def _decode_version(values: Mapping[str, Any]) -> VersionRecord:
    content = values["content"]
    return VersionRecord(
        values["model"],
        values["version"],
        Content(**{**content, "files": tuple(FileRecord(**file) for file in content["files"])}),
        values["created_at"],
        values["created_by"],
        VersionState(values["standing"]),
        values["metadata"],
        AdmissionReport(**values["report"]),
        tuple(SignatureRecord(**{**item, "signers": tuple(item["signers"])}) for item in values.get("signatures", ())),
        tuple(ApprovalRecord(**item) for item in values.get("approvals", ())),
    )
