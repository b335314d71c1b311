"""Converts counters, states and tallies to readings of the metric table."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.control.reconcile.planner import MaterializedVersion
from penstock.core.desired import Desired, ReadyState, VersionStatus, able_versions
from penstock.core.labels import PROTOCOL_NAMES, SHED_REASONS, code_label
from penstock.core.objectives import SERVER_FAILURES
from penstock.core.routing import POINTS, resolve_split
from penstock.core.versions import CHAMPION, VersionKey
from penstock.monitor.counters.layout import STAGES
from penstock.monitor.counters.slot import DEAD, OVERDUE, TASK_NAMES, WELL, Slot, TaskState
from penstock.monitor.counters.totals import Totals, count_load, count_refused
from penstock.telemetry import capture_metrics, metrics
from penstock.telemetry.explanation_metrics import EXPLANATION_SECONDS, EXPLANATIONS
from penstock.telemetry.readings import Distribution, Point, PointBatch, Reading

UNKNOWN = ("_unknown", "")
"""The model and version of requests that reached none."""

DEADLINE = "deadline"
"""The reason of requests whose deadline passed, beside ``SHED_REASONS``."""

FAILURE_CODES = {
    protocol: frozenset(code_label(protocol, outcome) for outcome in SERVER_FAILURES) for protocol in PROTOCOL_NAMES
}
"""Codes of failures that the server is responsible for, by protocol."""

HEALTH = {DEAD: "it is dead", OVERDUE: "it is overdue"}


@dataclass(slots=True)
class ControlCounters:
    """Counts of the control process: replaced workers by reason, loads by model, version and result, and requests that
    versions refused before their blocks were given to others, by model and reason (``DEADLINE`` for a deadline).
    """

    restarts: Counter[str] = field(default_factory=Counter)
    loads: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)

    def keep_refused(self, slots: Sequence[Slot], model: str, block: int) -> None:
        """Keep the refused requests of a version before its block is cleared: the counters of its model continue."""
        shed, overdue = count_refused(slots, block)
        for reason, count in zip((*SHED_REASONS, DEADLINE), (*shed, overdue), strict=True):
            if count:
                self.refused[model, reason] += count

    def forget(self, blocks: Collection[VersionKey]) -> None:
        """Forget versions and models without a block: their series have ended."""
        models = {model for model, _ in blocks}
        self.loads = Counter({key: count for key, count in self.loads.items() if key[:2] in blocks})
        self.refused = Counter({key: count for key, count in self.refused.items() if key[0] in models})


def encode_counters(tally: ControlCounters) -> dict[str, Any]:
    """Encode a tally as JSON values."""
    return {
        "restarts": dict(tally.restarts),
        "loads": [[*key, count] for key, count in tally.loads.items()],
        "refused": [[*key, count] for key, count in tally.refused.items()],
    }


def decode_counters(values: Mapping[str, Any]) -> ControlCounters:
    """Decode a tally from its JSON values."""
    loads = {(model, version, result): count for model, version, result, count in values.get("loads", [])}
    gone = {(model, reason): count for model, reason, count in values.get("refused", [])}
    return ControlCounters(Counter(values.get("restarts", {})), Counter(loads), Counter(gone))


def version_of(reading: Reading) -> VersionKey | None:
    """Return the version of a reading, None if it has none."""
    if reading.metric.labels[:2] != ("model", "version"):
        return None
    labels = next(iter(reading.labels), ()) if isinstance(reading, PointBatch) else reading.labels
    return (labels[0], labels[1]) if labels and labels[1] else None


def of_versions(readings: Iterable[Reading], reported: Collection[VersionKey]) -> Iterator[Reading]:
    """Drop readings of versions that are not ``reported``: the series of a version end with it, whatever
    counts them.
    """
    for reading in readings:
        key = version_of(reading)
        if key is None or key in reported:
            yield reading


def worker_readings(
    slots: Sequence[Slot],
    living: Sequence[Slot],
    blocks: Mapping[VersionKey, int],
    versions: Collection[VersionKey] | None = None,
    tally: ControlCounters | None = None,
) -> Iterator[Reading]:
    """What the workers counted; ``living`` are the slots whose worker lives, the only ones whose gauges hold.

    Series end with their version: only the ``known`` ones are reported (all of ``blocks`` for None). The counters of a
    model go on: what versions that are gone have refused stays in them, also that of the ``tally``.
    """
    reported = blocks.keys() if versions is None else blocks.keys() & set(versions)
    models = {UNKNOWN[0], *(model for model, _ in reported)}
    for key, block in {UNKNOWN: 0, **{key: blocks[key] for key in sorted(reported)}}.items():
        totals = Totals.of(slots, block)
        yield from _read_requests(key, totals)
        yield from _read_stages(key, totals)
        yield from _read_explanations(key, totals)
    yield from _of_models(slots, living, {UNKNOWN: 0, **blocks}, models, tally or ControlCounters())


def _of_models(
    slots: Sequence[Slot],
    living: Sequence[Slot],
    blocks: Mapping[VersionKey, int],
    models: Collection[str],
    tally: ControlCounters,
) -> Iterator[Reading]:
    """Return the counts of each model, over all its versions."""
    lost = Counter({key: count for key, count in tally.refused.items() if key[0] in models})
    gauges: Counter[tuple[str, str]] = Counter()
    for (model, _), block in blocks.items():
        if model not in models:
            continue
        shed, overdue = count_refused(slots, block)
        for reason, count in zip((*SHED_REASONS, DEADLINE), (*shed, overdue), strict=True):
            lost[model, reason] += count
        inflight, limit = count_load(living, block)
        gauges[model, "inflight"] += inflight
        gauges[model, "limit"] += limit
    for model in sorted(models):
        yield Point(metrics.INFLIGHT, (model,), gauges[model, "inflight"])
        yield Point(metrics.CONCURRENCY_LIMIT, (model,), gauges[model, "limit"])
        for reason in SHED_REASONS:
            yield Point(metrics.SHED, (model, reason), lost[model, reason])
        yield Point(metrics.DEADLINE_EXCEEDED, (model, "request"), lost[model, DEADLINE])


def read_workers(slots: Sequence[Slot], living: Sequence[Slot]) -> Iterator[Reading]:
    """Return the readings of each worker process: its memory budget, the stalls of its event loop, and its tasks."""
    for index, slot in enumerate(slots):
        if slot in living:
            limit, used = slot.memory
            yield Point(metrics.MEMORY_BUDGET, (str(index),), limit)
            yield Point(metrics.MEMORY_USED, (str(index),), used)
        stalls = slot.stalls
        yield Distribution(metrics.EVENT_LOOP_STALL, (str(index),), stalls.buckets, stalls.total / 1e9)
        for name, task in worker_tasks(index, slot):
            yield Point(metrics.TASK_FAILURES, (name,), task.failures)
            if slot in living and task.last_success_ms:  # the worker has reported its tasks
                yield Point(metrics.TASK_LAST_SUCCESS, (name,), task.last_success_ms / 1000)


def worker_tasks(index: int, slot: Slot) -> Iterator[tuple[str, TaskState]]:
    """Return a worker's periodic tasks by their names in metrics and probes."""
    for name, task in zip(TASK_NAMES, slot.tasks, strict=True):
        yield f"worker-{index}/{name}", task


def worker_problems(slots: Sequence[Slot], living: Sequence[Slot]) -> dict[str, str]:
    """Return the tasks of living workers that are dead or overdue, and which of the two."""
    tasks = [task for index, slot in enumerate(slots) if slot in living for task in worker_tasks(index, slot)]
    return {name: HEALTH[task.health] for name, task in tasks if task.health != WELL}


def _read_requests(key: VersionKey, totals: Totals) -> Iterator[Reading]:
    """Yield requests and durations; failures of a version are reported from its first request on, so that the first
    failures are an increase of a series."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for route, protocol, outcome, count in totals.requests():
        counts[route, protocol, code_label(protocol, outcome)] += count  # several outcomes may share a code
    for route, protocol in set() if key == UNKNOWN else {labels[:2] for labels in counts}:
        counts.update({(route, protocol, failure): 0 for failure in FAILURE_CODES[protocol]})
    for labels, count in counts.items():
        yield Point(metrics.REQUESTS, (*key, *labels), count)
    for route, protocol, histogram in totals.durations():
        series = (*key, route, protocol)
        yield Distribution(metrics.REQUEST_DURATION, series, histogram.buckets, histogram.total / 1e9)


def _read_stages(key: VersionKey, totals: Totals) -> Iterator[Reading]:
    for name in STAGES:
        histogram = totals.stage(name)
        if histogram.count:
            yield Distribution(metrics.STAGE_DURATION, (*key, name), histogram.buckets, histogram.total / 1e9)
    for source, number in totals.marked_rows().items():
        if number:
            yield Point(capture_metrics.MARKED_ROWS, (*key, source), number)
    rows = totals.batch_rows()
    if rows.count:
        yield Distribution(metrics.BATCH_ROWS, key, rows.buckets, rows.total)
        yield Point(metrics.JOINT_RUN_MISMATCHES, key, totals.joint_run_mismatches)


def _read_explanations(key: VersionKey, totals: Totals) -> Iterator[Reading]:
    counts = totals.explanations()
    took_ns = counts.pop("ns")
    for outcome, count in counts.items() if took_ns else ():
        yield Point(EXPLANATIONS, (*key, outcome), count)
    if took_ns:
        yield Point(EXPLANATION_SECONDS, key, took_ns / 1e9)


def read_states(statuses: Iterable[VersionStatus]) -> Iterator[Reading]:
    """Return the state of every version."""
    for status in statuses:
        for state in ReadyState:
            labels = (status.model, status.version, state.value)
            yield Point(metrics.MODEL_STATE, labels, status.state is state)


def read_contents(desired: Desired, placed: Callable[[str, str], MaterializedVersion | None]) -> Iterator[Reading]:
    """Return the content of every version that should be served, and the memory that its admission measured."""
    for model in desired.models:
        for spec in model.versions:
            content = placed(model.name, spec.version)
            if content is not None and content.digest:
                yield Point(metrics.MODEL_INFO, (model.name, spec.version, content.digest), 1)
            if content is not None and content.memory_bytes:
                yield Point(metrics.MODEL_MEMORY, (model.name, spec.version), content.memory_bytes)


def read_traffic(
    desired: Desired, statuses: Iterable[VersionStatus], totals: Callable[[str, str], Totals]
) -> Iterator[Reading]:
    """Return how routes split the requests among the versions that can answer, and the outcomes of mirrored
    requests.
    """
    versions = list(statuses)
    for model in desired.models:
        if model.route is not None:
            champion = model.aliases.get(CHAMPION)
            able = able_versions(model.unnamed(versions), model.route, champion)
            for version, weight in resolve_split(model.route, champion, able).items():
                yield Point(metrics.TRAFFIC_WEIGHT, (model.name, version), weight / POINTS)
        for spec in model.versions:
            key, shadow = (model.name, spec.version), totals(model.name, spec.version).shadow()
            if not shadow["mirrored"]:
                continue
            for outcome, word in (("pair", "pairs"), ("missed", "missed"), ("dropped", "dropped")):
                yield Point(metrics.SHADOW_REQUESTS, (*key, outcome), shadow[word])
            yield Point(metrics.SHADOW_PAIRS, key, shadow["pairs"])
            yield Point(metrics.SHADOW_DISAGREEMENTS, key, shadow["disagreements"])


def control_readings(tally: ControlCounters, versions: Collection[VersionKey] | None = None) -> Iterator[Reading]:
    """Return the counts of the control process; loads of the given ``versions`` (all for None)."""
    for key, count in tally.loads.items():
        if versions is None or key[:2] in versions:
            yield Point(metrics.MODEL_LOADS, key, count)
    for reason in ("died", "frozen", "stuck"):
        yield Point(metrics.WORKER_RESTARTS, (reason,), tally.restarts[reason])
