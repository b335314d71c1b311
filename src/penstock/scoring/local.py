"""Versions of the registry that run in this process."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from penstock.config.settings import Settings, load_settings
from penstock.core.errors import InvalidInput
from penstock.core.frames.outputs import outputs_to_frame
from penstock.core.frames.terms import RowTerms, card_defaults
from penstock.monitor.pyarrow_extra import Batch
from penstock.monitor.record_batches import batch_of, check_batch
from penstock.registry.records import VersionRecord
from penstock.scoring.binding import BatchBinder
from penstock.scoring.rows import ModelRunner
from penstock.scoring.versions import VersionContent, VersionFinder, load_version

RENAME_HINT: Final = "rename the columns, or push the version with the names of its features (in a model card, say)"


@dataclass(frozen=True, slots=True)
class LocalVersion:
    """A loaded version: its content, its runner, and what names its rows."""

    content: VersionContent
    runner: ModelRunner
    terms: RowTerms

    def binder(self, are_texts: bool = False) -> BatchBinder:
        """Return what binds rows to its inputs."""
        return BatchBinder(self.runner.signature, self.terms, are_texts)

    def score(self, batch: Batch) -> Batch:
        """Return the outputs of rows, a row for each; raises ``InvalidInput``, or ``TypeError`` without a batch."""
        check_batch(batch)
        signature = self.runner.signature
        if not signature.batching:
            raise InvalidInput("the model takes one row at a time; only models whose first axis is rows can be scored")
        bind = BatchBinder(signature, self.terms, hint=RENAME_HINT)
        bind.check(batch.schema.names)
        return batch_of(outputs_to_frame(self.runner.run(bind(batch).inputs), signature))


def read_settings(registry: str) -> Settings:
    """Return the settings of the environment; ``registry`` overrides theirs."""
    file = os.environ.get("PENSTOCK_CONFIG")
    return load_settings(Path(file) if file else None, {"registry": registry or None})


def find_version(registry: str, model: str, version: str) -> VersionRecord:
    """Return the record of a version; raises ``NotFound`` without it, or without a registry."""
    return VersionFinder(read_settings(registry)).find(model, version)


def load_local(registry: str, record: VersionRecord, threads: int = 1) -> LocalVersion:
    """Put a version on this machine and load it; raises as ``VersionFinder.place`` and ``load_version``."""
    return open_local(VersionFinder(read_settings(registry)).place(record), threads)


def open_local(content: VersionContent, threads: int = 1) -> LocalVersion:
    """Load a version that is on this machine; raises as ``load_version``."""
    model = load_version(content, threads)
    terms = RowTerms(content.features, card_defaults({"features": content.card}))
    return LocalVersion(content, ModelRunner(model), terms)
