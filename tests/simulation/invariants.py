"""What always holds, checked against the database after each step of a run, and what holds at its end.

Each function with an assertion is one invariant, and no other file of the simulation has assertions about a run: a
breach has the function's name, and ``mutations.py`` has a fault for each that it finds.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence

from penstock.core.routing import POINTS
from penstock.core.versions import CHAMPION, VersionKey
from penstock.registry.records import AuditEntry, Document, ModelRecord, VersionState
from penstock.registry.stores.outbox import SENT
from penstock.registry.stores.traffic import Trial
from tests.simulation.labels import Labels
from tests.simulation.monitoring import APPROVED, BUDGET
from tests.simulation.operations import Asked, harmful
from tests.simulation.true_state import TrueState

HARM_S = 45.0
"""Longest time for which a harmful canary gets traffic while nothing else is wrong."""


LEADERLESS_S = 25.0
"""Longest time without a leader while nothing is wrong: a lease's, and the pauses of the tasks that ask for it."""


def admitted(model: ModelRecord) -> set[str]:
    """The versions that may serve."""
    return {name for name, version in model.versions.items() if version.state is VersionState.ADMITTED}


# What is served.


def aliases_lead_to_versions(models: Iterable[ModelRecord]) -> None:
    for model in models:
        for alias in model.aliases.values():
            assert alias.version in admitted(model), f"alias {alias.alias} of {model.name} leads to {alias.version}"


def routes_are_whole(models: Iterable[ModelRecord]) -> None:
    odd = {
        model.name: model.route.split for model in models if model.route and sum(model.route.split.values()) != POINTS
    }
    assert not odd, f"weights do not sum to {POINTS}: {odd}"


def routes_lead_to_versions(models: Iterable[ModelRecord]) -> None:
    for model in models:
        if model.route is not None:
            lost = {*model.route.receivers(), model.route.stable} - admitted(model)
            assert not lost, f"the route of {model.name} needs {lost}"


def contents_are_kept(models: Iterable[ModelRecord], contents: Mapping[str, bytes]) -> None:
    for model in models:
        for name in admitted(model):
            assert model.versions[name].content.digest in contents, f"the content of {model.name} {name} is gone"


# What is written down.


class Audit:
    """The audit as it was read so far."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def read(self, state: TrueState) -> None:
        last = len(self.entries)
        found = state.store.audit(after=max(0, last - 5), limit=1000)
        known, new = found[: min(5, last)], found[min(5, last) :]
        audit_does_not_change(self.entries[max(0, last - 5) :], known)
        audit_has_no_gap(last, new)
        self.entries += new

    def of(self, actor: str) -> list[AuditEntry]:
        return [entry for entry in self.entries if entry.actor == actor]


def audit_does_not_change(before: Sequence[AuditEntry], now: Sequence[AuditEntry]) -> None:
    assert now == before, "the audit has changed"


def audit_has_no_gap(last: int, new: Sequence[AuditEntry]) -> None:
    assert [entry.seq for entry in new] == list(range(last + 1, last + 1 + len(new))), "the audit has a gap"


SILENT = ("move", "push", "retire", "act", "experiment", "steer", "approve", "drift", "clear_away")
"""Operations that may have nothing to do, and then leave no trace."""

REFUSALS = ("Conflict", "Refused", "NotFound", "InvalidInput")


def what_was_acknowledged_is_written(asked: Iterable[Asked], audit: Audit) -> None:
    actors = {entry.actor for entry in audit.entries}
    gone = [item for item in asked if item.outcome == "done" and item.what not in SILENT and item.actor not in actors]
    assert not gone, f"acknowledged and gone: {gone}"


def what_was_refused_is_not_written(asked: Iterable[Asked], audit: Audit) -> None:
    actors = {entry.actor for entry in audit.entries}
    done = [item for item in asked if item.outcome in REFUSALS and item.actor in actors]
    assert not done, f"refused and done: {done}"


def an_operation_is_one_transaction(asked: Iterable[Asked], changes: Mapping[str, int]) -> None:
    """What is written in two may end between them, in refusal of what is half done."""
    split = [item for item in asked if changes.get(item.actor, 0) > 1]
    assert not split, f"in more than one transaction: {split}"


# Rollouts and experiments.


def ends_restore_the_route(trial: Trial, audit: Audit) -> None:
    """A rollout that has ended without promotion, or an experiment, has left the route as it was before it (I5)."""
    lines, route = lines_of(trial, audit), f"models/{trial.model}/route"
    begun, ended = (audit.entries[index - 1] for index in (lines[0], lines[-1]))
    restored = (begun.subject, ended.subject, ended.after) == (route, route, begun.before)
    assert restored, f"{trial.kind} {trial.id} has left another route: {ended.after}, {begun.before}"


def what_is_promoted_does_no_harm(trial: Trial) -> None:
    """Held against guards (I6)."""
    to = trial.document["told"]["to"]
    assert not harmful((trial.model, to)), f"rollout {trial.id} has promoted a harmful version"


def what_is_promoted_is_the_champion(trial: Trial, audit: Audit) -> None:
    to = trial.document["told"]["to"]
    alias, last = f"models/{trial.model}/aliases/{CHAMPION}", lines_of(trial, audit)[-1]
    champion = [(entry.after or {}).get("version") for entry in audit.entries[:last] if entry.subject == alias][-1]
    assert champion == to, f"rollout {trial.id} has promoted {to}, and {champion} is the champion"


def lines_of(trial: Trial, audit: Audit) -> list[int]:
    """Where the audit speaks of a trial."""
    subject = f"models/{trial.model}/{trial.kind}s/{trial.id}"
    return [index for index, entry in enumerate(audit.entries) if entry.subject == subject]


def candidates_have_passed(trial: Trial, model: ModelRecord) -> None:
    """What rules roll out is no worse than the version it is to replace."""
    reported = trial.document["told"]
    own, other = (_accuracy(model, reported[side]) for side in ("to", "from"))
    passed = own is not None and (other is None or own >= other)
    assert passed, f"rules roll out {reported['to']} with {own}, against {reported['from']} with {other}"


def candidates_are_approved(trial: Trial, happened: Iterable[tuple[str, str]]) -> None:
    """Where that is asked for."""
    to = trial.document["told"]["to"]
    approved = ("candidate.approved.v1", f"models/{trial.model}/versions/{to}")
    assert trial.model != APPROVED or approved in happened, f"nobody has approved {to}"


def _accuracy(model: ModelRecord, version: str) -> float | None:
    metrics = model.versions[version].metadata.get("metrics", {})
    accuracy: float | None = metrics.get("accuracy")
    return accuracy


class Harm:
    """How long harmful canaries have had traffic while nothing was wrong with any gateway."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, trials: Iterable[str], seconds: float) -> None:
        for trial in trials:
            spent = self.seconds[trial] = self.seconds.get(trial, 0.0) + seconds
            harm_is_short(trial, spent)


def harm_is_short(trial: str, seconds: float) -> None:
    """A harmful canary loses its traffic (I6)."""
    assert seconds <= HARM_S, f"rollout {trial} harms for {seconds:g} s"


def counts_belong_to_open_trials(rows: int, opened: int, gateways: int) -> None:
    assert rows <= opened * gateways, f"{rows} observations for {opened} open trials"


# Evidence.


def requests_keep_the_budget(happened: Iterable[tuple[str, str]]) -> None:
    asked = Counter(subject.split("/")[1] for kind, subject in happened if kind == "retraining.requested.v1")
    assert all(number <= BUDGET for number in asked.values()), f"rules have asked for retraining too often: {asked}"


def nothing_counts_twice(counted: Mapping[VersionKey, int], answered: Mapping[VersionKey, int]) -> None:
    for key, number in counted.items():
        assert number <= answered.get(key, 0), (
            f"{number} requests of {key} are counted, {answered.get(key, 0)} were answered"
        )


def nothing_is_lost(counted: Mapping[VersionKey, int], least: Mapping[VersionKey, int]) -> None:
    for key, number in least.items():
        assert counted.get(key, 0) >= number, (
            f"{counted.get(key, 0)} requests of {key} are counted, {number} were published"
        )


def labels_count_once(labelled: Iterable[tuple[VersionKey, float]]) -> None:
    found = Counter(number for _, number in labelled)
    assert all(count == 1 for count in found.values()), "a label counts twice"


def labels_count_for_their_version(labelled: Iterable[tuple[VersionKey, float]], labels: Labels) -> None:
    assert all(labels.owners[number] == key for key, number in labelled), "a label counts for another version"


def no_label_is_lost(labelled: Iterable[tuple[VersionKey, float]], labels: Labels, but: Container[VersionKey]) -> None:
    kept = {number for _, number in labelled} | labels.lost
    lost = [number for number, key in labels.owners.items() if number not in kept and key not in but]
    assert not lost, f"{len(lost)} labels are lost"


def rewards_count_once(trial: Trial, rewards: Mapping[VersionKey, int]) -> None:
    for arm, mean in trial.document["experiment"]["rewards"].items():
        reported = rewards[trial.model, arm]
        assert mean["count"] <= reported, (
            f"experiment {trial.id} counts {mean['count']} rewards of {arm}, {reported} were told"
        )


def the_leader_reports_the_sum(key: VersionKey, reported: tuple[int, int] | None, sums: tuple[int, int]) -> None:
    """Of requests and labels."""
    assert reported == sums, f"of {key} requests and labels are {sums}, and {reported} are told"


# The outbox.


def sent_events_have_arrived(deliveries: Iterable[Document], received: Mapping[str, int]) -> None:
    for delivery in deliveries:
        if delivery["state"] == SENT:
            assert received.get(delivery["event"], 0), f"event {delivery['event']} counts as sent and never arrived"


def events_arrive_in_order(model: str, arrived: Sequence[str], addressed: Sequence[str]) -> None:
    """Of each model, as they were decided, once nothing waits any more."""
    assert arrived == addressed, f"of model {model} arrived {arrived}, for {addressed}"


def nothing_waits(waiting: int) -> None:
    """Within a time after the last fault."""
    assert not waiting, f"{waiting} events still wait"


# Leadership.


def somebody_leads(seconds: float) -> None:
    """Soon, where nothing is wrong with any gateway."""
    assert seconds <= LEADERLESS_S, f"nobody leads for {seconds:g} s"


def one_leads_in_a_term(terms: Iterable[int | None]) -> None:
    known = [term for term in terms if term is not None]
    assert len(known) == len(set(known)), f"several gateways lead in one term: {known}"


def only_the_leader_writes(found: Sequence[str]) -> None:
    """What was found at the end of transactions that only a leader may do."""
    assert not found, found[0]


def failures_explain_themselves(found: Sequence[str]) -> None:
    """Tasks fail with faults alone, whatever goes wrong."""
    assert not found, found[0]
