"""What always holds, checked against the database after each step of a run; any breach raises ``AssertionError``."""

from collections.abc import Iterable, Mapping

from penstock.core.rollouts.rollout import State
from penstock.core.routing import POINTS
from penstock.registry.records import AuditEntry, Document, ModelRecord, VersionState
from penstock.registry.stores.outbox import SENT
from penstock.registry.stores.traffic import Trial
from tests.simulation.operations import Asked
from tests.simulation.true_state import TrueState

HARM_S = 45.0
"""Longest time for which a harmful canary gets traffic while nothing else is wrong."""


def admitted(model: ModelRecord) -> set[str]:
    """The versions that may serve."""
    return {name for name, one in model.versions.items() if one.standing is VersionState.ADMITTED}


def aliases_lead_to_versions(models: Iterable[ModelRecord]) -> None:
    for model in models:
        for alias in model.aliases.values():
            assert alias.version in admitted(model), f"alias {alias.alias} of {model.name} leads to {alias.version}"


def routes_are_whole(models: Iterable[ModelRecord]) -> None:
    for model in models:
        if model.route is not None:
            assert sum(model.route.split.values()) == POINTS, f"{model.name}: {model.route.split}"
            lost = {*model.route.receivers(), model.route.stable} - admitted(model)
            assert not lost, f"the route of {model.name} needs {lost}"


def contents_are_kept(models: Iterable[ModelRecord], contents: Mapping[str, bytes]) -> None:
    for model in models:
        for name in admitted(model):
            assert model.versions[name].content.digest in contents, f"the content of {model.name} {name} is gone"


class Audit:
    """The audit as it was read so far: it grows without a gap, and nothing in it changes."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def read(self, state: TrueState) -> None:
        last = len(self.entries)
        found = state.store.audit(after=max(0, last - 5), limit=1000)
        known, new = found[: min(5, last)], found[min(5, last) :]
        assert known == self.entries[max(0, last - 5) :], "the audit has changed"
        assert [entry.seq for entry in new] == list(range(last + 1, last + 1 + len(new))), "the audit has a gap"
        self.entries += new

    def of(self, actor: str) -> list[AuditEntry]:
        return [entry for entry in self.entries if entry.actor == actor]


SILENT = ("move", "push", "retire", "act", "clear_away")
"""Operations that may have nothing to do, and then leave no trace."""


def answers_are_true(asked: Iterable[Asked], audit: Audit) -> None:
    """What was acknowledged is written down, and what was refused has left no trace."""
    actors = {entry.actor for entry in audit.entries}
    for one in asked:
        if one.outcome == "done" and one.what not in SILENT:
            assert one.actor in actors, f"{one.what} by {one.actor} was acknowledged and is gone"
        if one.outcome in ("Conflict", "Refused", "NotFound", "InvalidInput"):
            assert one.actor not in actors, f"{one.what} by {one.actor} was refused ({one.outcome}) and done"


def ends_restore_the_route(trial: Trial, audit: Audit) -> None:
    """A rollout that has ended without promotion has left the route as it was before it (I5)."""
    if trial.document["rollout"]["state"] == State.PROMOTED:
        return
    subject = f"models/{trial.model}/rollouts/{trial.id}"
    lines = [index for index, entry in enumerate(audit.entries) if entry.subject == subject]
    begun, ended = (audit.entries[index - 1] for index in (lines[0], lines[-1]))
    assert (begun.subject, ended.subject) == (f"models/{trial.model}/route",) * 2
    assert ended.after == begun.before, f"rollout {trial.id} has left another route: {ended.after} for {begun.before}"


class Harm:
    """How long harmful canaries have had traffic while nothing was wrong with any gateway (I6)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, trials: Iterable[str], seconds: float) -> None:
        for trial in trials:
            spent = self.seconds[trial] = self.seconds.get(trial, 0.0) + seconds
            assert spent <= HARM_S, f"rollout {trial} harms for {spent:g} s"


def sent_events_have_arrived(deliveries: Iterable[Document], received: Mapping[str, int]) -> None:
    for one in deliveries:
        if one["state"] == SENT:
            assert received.get(one["event"], 0), f"event {one['event']} counts as sent and never arrived"


def one_leads_in_a_term(terms: Iterable[int | None]) -> None:
    known = [term for term in terms if term is not None]
    assert len(known) == len(set(known)), f"several gateways lead in one term: {known}"


def counts_belong_to_open_trials(rows: int, opened: int, gateways: int) -> None:
    assert rows <= opened * gateways, f"{rows} observations for {opened} open trials"
