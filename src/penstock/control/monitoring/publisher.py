"""Publishes one gateway's counts so that none counts twice, whatever is lost, repeated or taken for ended.

The publisher first writes each publication to a file beside the counters, where a new control process finds it. So a
gateway whose rows were added to those of ended gateways continues with the counts beyond its last publication.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock.control.monitoring.publication import VersionCounts, pack_counts, unpack_counts
from penstock.core.versions import VersionKey
from penstock.engine.durable_files import write_atomically
from penstock.registry.stores.evidence import RETIRED_S, EvidenceStore, PublishedCounts, PublishedVersions


@dataclass(frozen=True, slots=True)
class Publication:
    """A gateway's publication of a version. ``tried`` are all counts at the last attempt, ``before`` those that are in
    the row of ended gateways. ``since`` is the first attempt at the present row (the database's time); ``known`` means
    that the row was seen in the database."""

    tried: PublishedCounts
    since: float
    known: bool = False
    before: PublishedCounts | None = None

    def update(self, key: VersionKey, present: PublishedVersions, now: float) -> "Publication | None":
        """Return the publication after a read of the database; None if the database has nothing of it."""
        if key in present.own:
            return replace(self, known=True)
        if key not in present.ended:
            return None
        if self.known or now - self.since >= RETIRED_S:  # else it was never written: so young a row is not retired
            return Publication(self.tried, now, before=self.tried)
        return self

    def out(self) -> dict[str, Any]:
        """Return JSON values."""
        before = None if self.before is None else _encode_row(self.before)
        return {"tried": _encode_row(self.tried), "since": self.since, "known": self.known, "before": before}


def decode_publication(values: Mapping[str, Any]) -> Publication:
    """Read the values of ``out``; raises ``KeyError``, ``TypeError`` or ``ValueError`` for an unknown format."""
    before = None if values["before"] is None else _decode_row(values["before"])
    return Publication(_decode_row(values["tried"]), float(values["since"]), bool(values["known"]), before)


class Publisher:
    """The publisher of one gateway; one thread at a time may use it. ``gateway`` names the gateway's counters: new
    counters have a new name. ``notes`` is a file that lives as long as the counters."""

    def __init__(self, store: EvidenceStore, gateway: str, notes: Path) -> None:
        self._store = store
        self._gateway = gateway
        self._notes = notes
        self._publications = self._read()
        self._written: dict[VersionKey, VersionCounts] = {}

    def publish(self, counts: Mapping[VersionKey, VersionCounts]) -> None:
        """Publish the present counts.

        Raises:
            NotReady: the database is unreachable; the counts may be published or not.
            OSError: the notes cannot be written, and nothing is published.
        """
        self._store.publish(self._gateway, counts, self._rows_to_publish(counts))
        self._written |= counts

    def _rows_to_publish(
        self, counts: Mapping[VersionKey, VersionCounts]
    ) -> Callable[[PublishedVersions], list[PublishedCounts]]:
        def rows(present: PublishedVersions) -> list[PublishedCounts]:
            self._publish_due(present, self._store.now())
            changed = {key: count for key, count in counts.items() if self._is_new(key, count)}
            if changed:
                self._note(changed)
            return [self._row(key, item) for key, item in changed.items()]

        return rows

    def _publish_due(self, present: PublishedVersions, now: float) -> None:
        updates = {key: publication.update(key, present, now) for key, publication in self._publications.items()}
        self._publications = {key: update for key, update in updates.items() if update is not None}
        self._written = {key: item for key, item in self._written.items() if key in present.own}

    def _is_new(self, key: VersionKey, counts: VersionCounts) -> bool:
        written = self._written.get(key)
        return written is None or not counts.equals(written)

    def _note(self, changed: Mapping[VersionKey, VersionCounts]) -> None:
        now, noted = self._store.now(), dict(self._publications)
        for key, counts in changed.items():
            tried, previous = pack_counts(key, self._gateway, counts), noted.get(key)
            noted[key] = Publication(tried, now) if previous is None else replace(previous, tried=tried)
        notes = [[*key, item.out()] for key, item in noted.items()]
        write_atomically(self._notes, json.dumps(notes))
        self._publications = noted

    def _row(self, key: VersionKey, counts: VersionCounts) -> PublishedCounts:
        """Return the row to publish; counts that were just packed for the notes are not packed again."""
        publication = self._publications[key]
        if publication.before is None:
            return publication.tried
        return pack_counts(key, self._gateway, counts.since(unpack_counts(publication.before, counts.shape)))

    def _read(self) -> dict[VersionKey, Publication]:
        try:
            notes = json.loads(self._notes.read_text())
            return {(model, version): decode_publication(values) for model, version, values in notes}
        except (OSError, KeyError, TypeError, ValueError):
            return {}


def _encode_row(row: PublishedCounts) -> list[Any]:
    cells = [base64.b64encode(item).decode() for item in (row.words, row.block)]
    return [row.model, row.version, row.gateway, row.layout, row.workers, *cells, dict(row.outcomes)]


def _decode_row(values: list[Any]) -> PublishedCounts:
    model, version, gateway, layout, workers, cells, block, outcomes = values
    packed_cells = base64.b64decode(cells), base64.b64decode(block)
    return PublishedCounts(model, version, gateway, layout, workers, *packed_cells, outcomes)
