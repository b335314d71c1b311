"""What reports of several workers add up to."""

import pytest

from penstock.control.reconcile.status import (
    StatusCache,
    find_readiness,
    find_statuses,
    is_applied,
    load_results,
    model_statuses,
    needed_workers,
    version_status,
)
from penstock.control.workers.server import WorkerReport
from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus

SPEC = VersionSpec("1", "/m/1", tag="new")
MODEL = ModelSpec("m", (SPEC,))
READY = VersionStatus("m", "1", ReadyState.READY, tag="new")
LOADING = VersionStatus("m", "1", ReadyState.LOADING, tag="new")
FAILED = VersionStatus("m", "1", ReadyState.UNAVAILABLE, "bad graph", tag="new")
KEPT = VersionStatus("m", "1", ReadyState.READY, "bad graph", tag="new")
OLD = VersionStatus("m", "1", ReadyState.READY, tag="old")


def reports(*said: VersionStatus | None) -> dict[int, WorkerReport]:
    return {
        index: WorkerReport(index, versions={} if status is None else {("m", "1"): status})
        for index, status in enumerate(said)
    }


@pytest.mark.parametrize(
    ("said", "state", "reason"),
    [
        ([READY, READY], ReadyState.READY, ""),
        ([READY, LOADING], ReadyState.LOADING, ""),
        ([READY, None], ReadyState.LOADING, ""),
        ([READY], ReadyState.LOADING, ""),
        ([], ReadyState.LOADING, ""),
        ([READY, FAILED], ReadyState.UNAVAILABLE, "bad graph"),
        ([FAILED, LOADING], ReadyState.UNAVAILABLE, "bad graph"),
        ([READY, KEPT], ReadyState.READY, "bad graph"),
    ],
)
def test_a_version_stands_as_it_does_where_it_stands_worst(
    said: list[VersionStatus | None], state: ReadyState, reason: str
) -> None:
    assert version_status("m", SPEC, reports(*said), 2) == VersionStatus("m", "1", state, reason, "new")


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ([READY, READY], {}),
        ([READY, LOADING], None),
        ([READY, OLD], None),
        ([READY], None),
        ([READY, FAILED], {"1": "bad graph"}),
        ([KEPT, KEPT], {"1": "bad graph"}),
    ],
)
def test_an_attempt_to_load_has_ended_when_every_worker_tried(
    said: list[VersionStatus | None], outcome: dict[str, str] | None
) -> None:
    assert load_results(MODEL, reports(*said), 2) == outcome


def test_a_model_without_versions_has_failed_at_once() -> None:
    assert load_results(ModelSpec("m", unavailable={"": "no version"}), {}, 2) == {"": "no version"}


def test_statuses_are_computed_again_when_something_was_replaced() -> None:
    cache, desired, worker = StatusCache(), Desired(1, (MODEL,)), WorkerReport(0)
    first = cache.statuses(desired, {0: worker}, 1)
    again = cache.statuses(desired, {0: worker}, 1)
    assert again == first == find_statuses(desired, {0: worker}, 1) and again is not first
    assert again[0] is first[0]
    worker.versions = {("m", "1"): VersionStatus("m", "1", ReadyState.READY)}
    for now in ((desired, {0: worker}, 1), (Desired(2, (MODEL,)), {0: worker}, 1), (desired, {}, 2)):
        assert cache.statuses(*now) == find_statuses(*now)


def test_known_versions_are_listed_in_order() -> None:
    model = ModelSpec("m", (VersionSpec("10", "/m/10"), VersionSpec("2", "/m/2")), {}, {"3": "broken"})
    listed = model_statuses(model, {}, 1)
    assert [(item.version, item.state) for item in listed] == [
        ("2", ReadyState.LOADING),
        ("3", ReadyState.UNAVAILABLE),
        ("10", ReadyState.LOADING),
    ]


@pytest.mark.parametrize(
    ("workers", "needed", "draining", "waiting", "reason"),
    [
        ([True, True], 2, False, "", ""),
        ([True, False], 2, False, "", "1 of 2 workers are ready"),
        ([True, False], 1, False, "", ""),
        ([False, False], 1, False, "", "0 of 2 workers are ready"),
        ([True], 1, True, "", "the gateway is stopping"),
        ([], 0, False, "", "0 of 0 workers are ready"),
        ([True], 1, False, "the bucket is away", "the bucket is away"),
    ],
)
def test_readiness_needs_enough_workers_and_something_to_serve(
    workers: list[bool], needed: int, draining: bool, waiting: str, reason: str
) -> None:
    found = find_readiness(workers, [READY, FAILED, LOADING, READY], needed, draining, waiting)
    assert (found.ready, found.reason) == (not reason, reason)
    assert (found.workers_ready, found.workers) == (sum(workers), len(workers))
    assert found.versions == {"READY": 2, "UNAVAILABLE": 1, "LOADING": 1}


@pytest.mark.parametrize(
    ("stated", "begun", "needed"),
    [(None, False, 3), (None, True, 1), (2, False, 2), (2, True, 2), (9, False, 3), (9, True, 3)],
)
def test_all_workers_are_needed_at_the_start_and_one_later(stated: int | None, begun: bool, needed: int) -> None:
    assert needed_workers(stated, 3, begun) == needed


def test_a_desired_state_is_applied_when_no_connected_worker_is_behind() -> None:
    desired = Desired(3)
    assert is_applied(desired, [])
    assert is_applied(desired, [WorkerReport(1, applied=3), WorkerReport(2, applied=4)])
    assert not is_applied(desired, [WorkerReport(1, applied=3), WorkerReport(2, applied=2)])
