"""The registry as it was last read: what is served goes on while the database is away, in this process and the next."""

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from penstock.core.errors import NotReady
from penstock.core.routing import stored_in, stored_out
from penstock.core.versions import VersionPolicy
from penstock.engine.durable_files import write_atomically
from penstock.registry.records import (
    AliasRecord,
    Content,
    FileRecord,
    ModelRecord,
    ModelSettings,
    Report,
    VersionRecord,
    VersionState,
)

log = logging.getLogger("penstock.registry")


class Store(Protocol):
    """What is read of the database."""

    def revision(self) -> int:
        """Grows by every change."""

    def models(self) -> list[ModelRecord]:
        """Every model."""


class RegistrySnapshot:
    """Reads a store, and remembers what it said in ``file``; blocking, for any thread."""

    def __init__(self, store: Store, file: Path) -> None:
        self._store = store
        self._file = file
        self._revision: int | None = None
        self._models: list[ModelRecord] | None = None
        self._unreadable: dict[str, str] = {}
        self._unwritten = ""
        self._one_at_a_time = threading.Lock()
        self.problem = ""

    def models(self) -> list[ModelRecord]:
        """Every model, as it is now or, while the database is away, as it was; ``problem`` then says why.

        Raises:
            NotReady: the database is away and was never read.
        """
        with self._one_at_a_time:
            return self._read()

    def present(self) -> list[ModelRecord]:
        """Every model as it is now, for changes that follow from it.

        Raises:
            NotReady: the database is away.
        """
        with self._one_at_a_time:
            models = self._read()
            if self.problem:
                raise NotReady(self.problem)
            return models

    def last_known(self, problem: str) -> list[ModelRecord] | None:
        """What was last read in this process, for when a read takes too long (``problem`` says so); does not block."""
        self.problem = problem
        return self._models

    def recalled(self, problem: str) -> list[ModelRecord] | None:
        """The same, or what an earlier process read last; whoever reads the database meanwhile is not waited for."""
        self.problem = problem
        return self._models or self._recalled()

    @property
    def revision(self) -> int:
        """The registry's revision when it was last looked at, 0 while it is away."""
        return self._revision or 0

    def _read(self) -> list[ModelRecord]:
        try:
            revision = self._store.revision()
            if self._models is None or revision != self._revision:
                self._models, self._revision = self._filled(self._store.models()), revision
                self._remember(self._models)
            self.problem = ""
        except NotReady as fault:
            self.problem, self._revision = str(fault), None
            if self._models is None:
                self._models = self._recalled()
            if self._models is None:
                raise
        return self._models

    def _filled(self, models: list[ModelRecord]) -> list[ModelRecord]:
        """The same, with what was read before of those that cannot be read now."""
        problems = {model.name: model.problem for model in models if model.problem}
        for name in problems.keys() - self._unreadable.keys():
            log.error("model %s cannot be read, what was read of it before holds on: %s", name, problems[name])
        self._unreadable = problems
        if not problems:
            return models
        before = {model.name: model for model in self._models or self._recalled() or ()}
        return [
            replace(before[model.name], problem=model.problem) if model.problem and model.name in before else model
            for model in models
        ]

    def _remember(self, models: list[ModelRecord]) -> None:
        try:
            write_atomically(self._file, json.dumps([model_out(model) for model in models]))
            self._unwritten = ""
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if reason != self._unwritten:
                log.warning("what the registry said cannot be remembered: %s", reason)
            self._unwritten = reason

    def _recalled(self) -> list[ModelRecord] | None:
        try:
            return [model_in(values) for values in json.loads(self._file.read_text())]
        except (OSError, ValueError, KeyError, TypeError):
            return None


def model_out(model: ModelRecord) -> dict[str, Any]:
    """A model as JSON values."""
    route = None if model.route is None else stored_out(model.route)
    return {**asdict(replace(model, route=None)), "route": route}


def model_in(values: Mapping[str, Any]) -> ModelRecord:
    """A model from its JSON values, as ``model_out`` gives them."""
    settings = values["settings"]
    policy = settings["versions"]
    return ModelRecord(
        values["name"],
        values["revision"],
        {version: _version_in(one) for version, one in values["versions"].items()},
        {
            alias: AliasRecord(one["alias"], one["version"], tuple(one["before"]))
            for alias, one in values["aliases"].items()
        },
        ModelSettings(
            VersionPolicy(policy["kind"], policy["latest"], tuple(policy["specific"])),
            settings["transition"],
            settings["keep_warm_s"],
        ),
        None if values["route"] is None else stored_in(values["route"]),
    )


def _version_in(values: Mapping[str, Any]) -> VersionRecord:
    content = values["content"]
    return VersionRecord(
        values["model"],
        values["version"],
        Content(**{**content, "files": tuple(FileRecord(**file) for file in content["files"])}),
        values["created_at"],
        values["created_by"],
        VersionState(values["standing"]),
        values["metadata"],
        Report(**values["report"]),
    )
