"""What always holds, checked against the database after each step of a run; any breach raises ``AssertionError``."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping

from penstock.core.routing import POINTS
from penstock.core.versions import CHAMPION
from penstock.registry.records import AuditEntry, Document, ModelRecord, VersionState
from penstock.registry.stores.outbox import SENT
from penstock.registry.stores.traffic import Trial
from tests.simulation.fleet import Key
from tests.simulation.labels import Labels
from tests.simulation.monitoring import APPROVED, BUDGET
from tests.simulation.operations import Asked, harmful
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


SILENT = ("move", "push", "retire", "act", "experiment", "steer", "approve", "drift", "clear_away")
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
    """A rollout that has ended without promotion, or an experiment, has left the route as it was before it (I5)."""
    lines = lines_of(trial, audit)
    begun, ended = (audit.entries[index - 1] for index in (lines[0], lines[-1]))
    assert (begun.subject, ended.subject) == (f"models/{trial.model}/route",) * 2
    assert ended.after == begun.before, f"{trial.kind} {trial.id} has left another route: {ended.after}, {begun.before}"


def promotion_is_deserved(trial: Trial, audit: Audit) -> None:
    """A rollout that was promoted has made its version the champion, and that does no harm (I6)."""
    to = trial.document["told"]["to"]
    assert not harmful((trial.model, to)), f"rollout {trial.id} has promoted a harmful version"
    alias, last = f"models/{trial.model}/aliases/{CHAMPION}", lines_of(trial, audit)[-1]
    moves = [entry.after for entry in audit.entries[:last] if entry.subject == alias]
    assert moves[-1] == {"version": to}, f"rollout {trial.id} has promoted {to}, and {moves[-1]} is the champion"


def lines_of(trial: Trial, audit: Audit) -> list[int]:
    """Where the audit speaks of a trial."""
    subject = f"models/{trial.model}/{trial.kind}s/{trial.id}"
    return [index for index, entry in enumerate(audit.entries) if entry.subject == subject]


def candidates_have_passed(trial: Trial, model: ModelRecord, happened: Iterable[tuple[str, str]]) -> None:
    """What rules roll out is no worse than the version it is to replace, and approved where that is asked for."""
    told = trial.document["told"]
    mine, other = (_accuracy(model, told[side]) for side in ("to", "from"))
    passed = mine is not None and (other is None or mine >= other)
    assert passed, f"rules roll out {told['to']} with {mine}, against {told['from']} with {other}"
    approved = ("candidate.approved.v1", f"models/{trial.model}/versions/{told['to']}")
    assert trial.model != APPROVED or approved in happened, f"nobody has approved {told['to']}"


def _accuracy(model: ModelRecord, version: str) -> float | None:
    metrics = model.versions[version].metadata.get("metrics", {})
    accuracy: float | None = metrics.get("accuracy")
    return accuracy


def requests_keep_the_budget(happened: Iterable[tuple[str, str]]) -> None:
    asked = Counter(subject.split("/")[1] for kind, subject in happened if kind == "retraining.requested.v1")
    assert all(number <= BUDGET for number in asked.values()), f"rules have asked for retraining too often: {asked}"


def nothing_counts_twice(counted: Mapping[Key, int], answered: Mapping[Key, int]) -> None:
    for key, number in counted.items():
        assert number <= answered.get(key, 0), (
            f"{number} requests of {key} are counted, {answered.get(key, 0)} were answered"
        )


def nothing_is_lost(counted: Mapping[Key, int], least: Mapping[Key, int]) -> None:
    for key, number in least.items():
        assert counted.get(key, 0) >= number, (
            f"{counted.get(key, 0)} requests of {key} are counted, {number} were published"
        )


def labels_count_once(labelled: Iterable[tuple[Key, float]], labels: Labels) -> None:
    found = Counter(number for _, number in labelled)
    assert all(count == 1 for count in found.values()), "a label counts twice"
    assert all(labels.owners[number] == key for key, number in labelled), "a label counts for another version"


def no_label_is_lost(labelled: Iterable[tuple[Key, float]], labels: Labels, but: Container[Key]) -> None:
    kept = {number for _, number in labelled} | labels.lost
    lost = [number for number, key in labels.owners.items() if number not in kept and key not in but]
    assert not lost, f"{len(lost)} labels are lost"


def rewards_count_once(trial: Trial, rewards: Mapping[Key, int]) -> None:
    for arm, mean in trial.document["experiment"]["rewards"].items():
        told = rewards[trial.model, arm]
        assert mean["count"] <= told, f"experiment {trial.id} counts {mean['count']} rewards of {arm}, {told} were told"


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
