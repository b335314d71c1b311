"""All models in one document, each in one row: who answers, the state of its versions, its open trial, its last event.

It is built from what this process has in memory; only events are read, and of them only new ones.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from penstock.control.delivery.trial import UNREADABLE
from penstock.control.monitoring.answering import answering_shares
from penstock.core.desired import Desired, ModelSpec, VersionStatus
from penstock.core.errors import Fault
from penstock.core.routing import POINTS
from penstock.core.versions import VersionKey
from penstock.registry.records import Document
from penstock.registry.stores.traffic import Trial

MOST_NEW: Final = 1000
"""Events that one look reads; the next look reads on."""

TRIAL_FIELDS: Final = ("state", "step", "weight", "to", "mode", "reason")


class OverviewState(Protocol):
    """What this gateway serves."""

    @property
    def desired(self) -> Desired:
        """The desired state."""

    def statuses(self) -> list[VersionStatus]:
        """Return the status of every version."""


class NewestTrials(Protocol):
    """Rollouts or experiments, as of their controller's last step."""

    newest: dict[str, Trial]

    def to_api(self, trial: Trial) -> Document:
        """Return a trial as the admin API shows it."""


class NewestEvents:
    """The newest event of each model. ``newest_by_model`` reads it of all models once, ``after`` those after a sequence
    number; while the database is away the last known ones stay. Of one event loop."""

    def __init__(
        self,
        newest_by_model: Callable[[], Awaitable[list[Document]]],
        after: Callable[[int, int], Awaitable[list[Document]]],
    ) -> None:
        self._newest_by_model = newest_by_model
        self._after = after
        self._last: int | None = None
        self._events: dict[str, Document] = {}

    async def look(self, models: Iterable[str]) -> Mapping[str, Document]:
        """Return the newest event of each of these models, and forget those of others."""
        with suppress(Fault):
            fresh = await (self._newest_by_model() if self._last is None else self._after(self._last, MOST_NEW))
            for event in fresh:
                self._events[_model_of(event)] = event
            self._last = max([self._last or 0, *(event["sequence"] for event in fresh)])
        known = set(models)
        self._events = {model: event for model, event in self._events.items() if model in known}
        return self._events


class ModelOverview:
    """Builds the document. ``state_of`` gives the drift and the quality of a version in short, None if it is not
    watched."""

    def __init__(
        self,
        serving: OverviewState,
        trials: Sequence[NewestTrials],
        state_of: Callable[[VersionKey], Document | None],
        events: NewestEvents,
    ) -> None:
        self._serving = serving
        self._trials = trials
        self._state_of = state_of
        self._events = events

    async def document(self) -> Document:
        """Return ``models``, in the order of their names; never raises."""
        statuses: dict[str, list[VersionStatus]] = {}
        for status in self._serving.statuses():
            statuses.setdefault(status.model, []).append(status)
        specs = {model.name: model for model in self._serving.desired.models}
        events = await self._events.look(statuses)
        rows = (self._row(name, specs.get(name), statuses[name], events.get(name)) for name in sorted(statuses))
        return {"models": list(rows)}

    def _row(
        self, name: str, spec: ModelSpec | None, statuses: Sequence[VersionStatus], event: Document | None
    ) -> Document:
        shares = {} if spec is None else answering_shares(spec, statuses)
        first = next(iter(shares), "")
        watched = (self._state_of((name, first)) if first else None) or {"drift": None, "quality": None}
        return {
            "name": name,
            "split": {version: round(share * POINTS) for version, share in shares.items()},
            "versions": sum(1 for status in statuses if status.version),
            "states": dict(Counter(status.state.value for status in statuses)),
            "reason": next((status.reason for status in statuses if status.reason), ""),
            **watched,
            "trial": self._open_trial(name),
            "event": None if event is None else {key: event[key] for key in ("type", "time", "subject", "sequence")},
        }

    def _open_trial(self, model: str) -> Document | None:
        for trials in self._trials:
            trial = trials.newest.get(model)
            if trial is not None and trial.open:
                return {"id": trial.id, "kind": trial.kind, **_shorten_trial(trials, trial)}
        return None


def _shorten_trial(trials: NewestTrials, trial: Trial) -> Document:
    """Return what a row shows of a trial; of one in the format of another release, nothing."""
    with suppress(*UNREADABLE):
        document = trials.to_api(trial)
        return {name: document[name] for name in TRIAL_FIELDS if name in document}
    return {}


def _model_of(event: Document) -> str:
    parts = str(event["subject"]).split("/")
    return parts[1] if parts[0] == "models" and len(parts) > 1 else ""
