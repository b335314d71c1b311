"""From counters in slots to metric readings: they add up over workers and go on over restarts."""

from collections import Counter
from collections.abc import Iterable

from penstock.control.plane import metrics as readings
from penstock.control.plane.metrics import ControlCounters, decode_counters, encode_counters
from penstock.control.reconcile.planner import MaterializedVersion
from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus
from penstock.core.labels import OUTCOME_INDEX, PROTOCOL_NAMES, SHED_REASONS, Protocol, Route
from penstock.monitor.counters.slot import DEAD, HEARTBEAT, HOUSE, WELL, Slot, TaskState
from penstock.telemetry import metrics
from penstock.telemetry.metric import Metric
from penstock.telemetry.readings import Distribution, Point, PointBatch, Reading


def points(found: Iterable[Reading], metric: Metric) -> dict[tuple[str, ...], float]:
    return {item.labels: item.value for item in found if isinstance(item, Point) and item.metric is metric}


def distributions(found: Iterable[Reading], metric: Metric) -> dict[tuple[str, ...], Distribution]:
    return {item.labels: item for item in found if isinstance(item, Distribution) and item.metric is metric}


def finish(slot: Slot, block: int, outcome: str, protocol: Protocol = Protocol.REST, total_ns: int = 1_000_000) -> None:
    series = Route.STABLE * len(PROTOCOL_NAMES) + protocol
    slot.block(block).count_failure(series, OUTCOME_INDEX[outcome], total_ns, attributed=True)


BLOCKS = {("m", "1"): 1, ("m", "2"): 2}


def test_requests_add_up_over_workers_with_the_code_of_their_transport() -> None:
    slots = [Slot.in_process(), Slot.in_process()]
    for slot in slots:
        for outcome in ("invalid", "invalid", "overloaded", "too_large"):
            finish(slot, 1, outcome)
            finish(slot, 1, outcome, Protocol.GRPC)
    finish(slots[0], 0, "not_found")
    found = list(readings.worker_readings(slots, slots, BLOCKS))
    counted = points(found, metrics.REQUESTS)
    assert {labels: count for labels, count in counted.items() if count} == {
        ("m", "1", "stable", "rest", "400"): 4,
        ("m", "1", "stable", "rest", "429"): 2,
        ("m", "1", "stable", "rest", "413"): 2,
        ("m", "1", "stable", "grpc", "INVALID_ARGUMENT"): 4,
        ("m", "1", "stable", "grpc", "RESOURCE_EXHAUSTED"): 4,  # two outcomes share this name
        ("_unknown", "", "stable", "rest", "404"): 1,
    }
    unseen = {labels[3:] for labels, count in counted.items() if labels[:2] == ("m", "1") and not count}
    assert unseen == {  # an alert sees their first increase
        *(("rest", code) for code in ("500", "503", "504")),
        *(("grpc", code) for code in ("DATA_LOSS", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE")),
    }
    durations = distributions(found, metrics.REQUEST_DURATION)
    assert sum(durations["m", "1", "stable", "rest"].buckets) == 8
    assert durations["m", "1", "stable", "rest"].total == 0.008


def test_a_successor_in_the_slot_continues_its_counters_and_not_its_gauges() -> None:
    slot = Slot.in_process()
    slot.take_over(98)
    finish(slot, 1, "invalid")
    slot.block(1).set_in_flight(1)
    slot.take_over(99)
    finish(slot, 1, "invalid")
    found = list(readings.worker_readings([slot], [slot], BLOCKS))
    assert points(found, metrics.REQUESTS)["m", "1", "stable", "rest", "400"] == 2
    assert points(found, metrics.INFLIGHT)["m",] == 0


def test_gauges_of_dead_workers_do_not_count() -> None:
    living, dead = Slot.in_process(), Slot.in_process()
    for slot in (living, dead):
        for block in (1, 2):
            slot.block(block).set_in_flight(1)
            slot.block(block).set_limit(30)
    found = list(readings.worker_readings([living, dead], [living], BLOCKS))
    assert points(found, metrics.CONCURRENCY_LIMIT)["m",] == 60
    assert points(found, metrics.INFLIGHT) == {("_unknown",): 0, ("m",): 2}


def test_refusals_for_lack_of_memory_or_time_count_by_model() -> None:
    slot = Slot.in_process()
    for block, reason in ((1, "queue_full"), (2, "queue_full"), (2, "too_late")):
        slot.block(block).count_shed(SHED_REASONS.index(reason))
    finish(slot, 2, "deadline")
    found = list(readings.worker_readings([slot], [slot], BLOCKS))
    shed = points(found, metrics.SHED)
    assert (shed["m", "queue_full"], shed["m", "too_late"], shed["m", "gave_way"]) == (2, 1, 0)
    assert points(found, metrics.DEADLINE_EXCEEDED)["m", "request"] == 1


def test_states_are_one_of_each() -> None:
    found = list(readings.read_states([VersionStatus("m", "1", ReadyState.READY)]))
    values = points(found, metrics.MODEL_STATE)
    assert values == {("m", "1", state.value): float(state is ReadyState.READY) for state in ReadyState}


def test_contents_are_reported_once_their_digest_is_known() -> None:
    desired = Desired(1, (ModelSpec("m", (VersionSpec("1", "/a"), VersionSpec("2", "/b"))),))
    placed = {
        ("m", "1"): MaterializedVersion("/a", "t", digest="sha256:aa", memory_bytes=7),
        ("m", "2"): MaterializedVersion("/b", "t"),
    }
    found = list(readings.read_contents(desired, lambda model, version: placed.get((model, version))))
    assert points(found, metrics.MODEL_INFO) == {("m", "1", "sha256:aa"): 1}
    assert points(found, metrics.MODEL_MEMORY) == {("m", "1"): 7}


def test_what_the_control_process_counts_survives_being_stored() -> None:
    tally = ControlCounters(Counter(died=2), Counter({("m", "1", "ok"): 3}))
    assert decode_counters(encode_counters(tally)) == tally
    assert decode_counters({}) == ControlCounters()
    found = list(readings.control_readings(tally))
    assert points(found, metrics.WORKER_RESTARTS) == {("died",): 2, ("frozen",): 0, ("stuck",): 0}
    assert points(found, metrics.MODEL_LOADS) == {("m", "1", "ok"): 3}


def test_series_end_with_their_version_and_the_models_counters_go_on() -> None:
    slot = Slot.in_process()
    for block in (1, 2):
        finish(slot, block, "deadline")
        slot.block(block).count_shed(SHED_REASONS.index("queue_full"))
    before = list(readings.worker_readings([slot], [slot], BLOCKS, BLOCKS.keys(), ControlCounters()))
    gone = list(readings.worker_readings([slot], [slot], BLOCKS, [("m", "2")], ControlCounters()))
    assert {item.labels[1] for item in gone if "version" in item.metric.labels} == {"2"}
    tally = ControlCounters(loads=Counter({("m", "1", "ok"): 1, ("m", "2", "ok"): 1}))
    assert set(points(readings.control_readings(tally, [("m", "2")]), metrics.MODEL_LOADS)) == {("m", "2", "ok")}
    tally.keep_refused([slot], "m", 1)
    slot.clear(1)  # the block goes to a version of another model
    tally = decode_counters(encode_counters(tally))
    reused = {("m", "2"): 2, ("other", "1"): 1}
    tally.forget(reused)
    assert list(tally.loads) == [("m", "2", "ok")]
    after = list(readings.worker_readings([slot], [slot], reused, reused, tally))
    for metric in (metrics.SHED, metrics.DEADLINE_EXCEEDED):
        model = {key: value for key, value in points(before, metric).items() if key[0] == "m"}
        assert sum(model.values()) == 2
        for found in (gone, after):
            assert {key: value for key, value in points(found, metric).items() if key[0] == "m"} == model
    tally.forget({("other", "1"): 1})
    assert not tally.refused
    assert not [
        reading for reading in readings.worker_readings([slot], [slot], BLOCKS, [], tally) if "m" in reading.labels
    ]


def test_each_worker_reports_its_memory_while_it_runs_and_its_stalls_for_good() -> None:
    slots = [Slot.in_process(), Slot.in_process()]
    for slot in slots:
        slot.set_memory(1000, 10)
        slot.count_stall(3_000_000)
    slots[1].count_stall(10_000_000_000)
    slots[1].take_over(99)
    found = list(readings.read_workers(slots, slots[:1]))
    assert points(found, metrics.MEMORY_BUDGET) == {("0",): 1000}
    assert points(found, metrics.MEMORY_USED) == {("0",): 10}
    stalls = distributions(found, metrics.EVENT_LOOP_STALL)
    assert stalls["0",].total == 0.003
    assert stalls["0",].buckets[:4] == (0, 0, 1, 0)  # up to 1, 2, 5 and 10 ms
    assert stalls["1",].buckets[-1] == 1  # beyond the last edge
    assert stalls["1",].total == 10.003
    assert slots[1].memory == (0, 0)


def test_tasks_of_workers_are_reported_and_those_of_running_ones_may_be_a_problem() -> None:
    slots = [Slot.in_process(), Slot.in_process()]
    for slot in slots:
        slot.set_task(HEARTBEAT, TaskState(1, 2_500, DEAD))
        slot.set_task(HOUSE, TaskState(2, 0, WELL))
    found = list(readings.read_workers(slots, slots[1:]))
    tasks = {(f"worker-{slot}/{name}",): count for slot in "01" for name, count in (("heartbeat", 1), ("house", 2))}
    assert points(found, metrics.TASK_FAILURES) == tasks
    assert points(found, metrics.TASK_LAST_SUCCESS) == {("worker-1/heartbeat",): 2.5}
    assert readings.worker_problems(slots, slots[1:]) == {"worker-1/heartbeat": "it is dead"}


def test_series_end_with_their_version_whoever_counts_them() -> None:
    found: list[Reading] = [
        Point(metrics.LABELS, ("m", "1", "joined"), 3),
        Point(metrics.LABELS, ("m", "2", "joined"), 4),
        Point(metrics.LABELS, ("m", "", "unknown"), 5),
        PointBatch(metrics.DRIFT_ALARMS, (("m", "1"),), [1]),
        PointBatch(metrics.DRIFT_ALARMS, (), []),
        Distribution(metrics.BATCH_ROWS, ("m", "1"), (1,), 1.0),
        Point(metrics.INFLIGHT, ("m",), 6),
    ]
    assert list(readings.of_versions(found, {("m", "2")})) == [found[1], found[2], found[4], found[6]]


def test_every_metric_of_a_version_begins_with_model_and_version() -> None:
    for metric in metrics.METRICS:
        assert "version" not in metric.labels or metric.labels[:2] == ("model", "version")


def test_taking_a_block_back_keeps_the_counters_of_its_model() -> None:
    slot, tally = Slot.in_process(), ControlCounters()
    for block in (1, 2):
        slot.block(block).count_shed(SHED_REASONS.index("queue_full"))
    before = points(readings.worker_readings([slot], [slot], BLOCKS, tally=tally), metrics.SHED)
    tally.keep_refused([slot], "m", 1)
    slot.clear(1)
    after = points(readings.worker_readings([slot], [slot], {("m", "2"): 2}, tally=tally), metrics.SHED)
    assert after == before
