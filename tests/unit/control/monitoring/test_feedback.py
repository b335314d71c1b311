"""Labels as the control process takes them in: how often false alarms may be by the policy and the clock."""

import asyncio
import errno
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from penstock.control.monitoring.feedback import FeedbackMonitor
from penstock.core.errors import NotReady
from penstock.core.policies import MonitorPolicy
from penstock.core.tensors import Tensor
from penstock.core.versions import VersionKey
from penstock.monitor.answer_budget import AnswerBudget
from penstock.monitor.answer_segments import ANSWERS, AnswerWriter
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.answers import answers_of
from penstock.monitor.capture import CAPTURES, SUFFIX
from penstock.monitor.feedback import Feedback, FeedbackResult, JoinResult
from penstock.monitor.performance import PerformanceChange
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point

IDS = [f"id-{number}" for number in range(20)]
PASSED_S = 400.0


async def _emit(key: VersionKey, change: PerformanceChange) -> None:
    raise AssertionError


def evidence_of_a_gap(folder: Path, daily: float) -> float:
    """After twenty answers that are wrong and were 90 % sure, whose labels came some minutes after others."""
    now = time.time()
    labels = FeedbackMonitor(
        folder, folder / "labels.json", lambda key: (None, MonitorPolicy(daily=daily)), _emit, clock=lambda: now
    )
    try:
        writer = AnswerWriter(folder / ANSWERS, "m", "1")
        for ids, sure in ((["first"], 0.5), (IDS, 0.9)):
            answers = answers_of([Tensor("p", "FP64", np.array([[1 - sure, sure]] * len(ids)))])
            assert answers is not None
            writer.add(ids, [1] * len(ids), answers)
        asyncio.run(labels.take("m", [Feedback("first", 0)]))
        now += PASSED_S
        assert asyncio.run(labels.take("m", [Feedback(id_, 0) for id_ in IDS])) == FeedbackResult()
        found: float = labels.document(("m", "1"))["gap"]["log_e"]
        return found
    finally:
        labels.close()


@pytest.mark.simulation
def test_false_alarms_a_day_bound_those_of_labels_by_the_time_since_the_labels_before(tmp_path: Path) -> None:
    share = 0.5
    daily = share * len(IDS) * 86_400 / PASSED_S / MonitorPolicy().budget
    every, half = (evidence_of_a_gap(tmp_path / str(item), item) for item in (0.0, daily))
    assert half == pytest.approx(every + math.log(share), abs=0.12)  # the label before them came at a whole share


def test_versions_that_are_gone_are_forgotten_with_their_last_answer(tmp_path: Path) -> None:
    now, horizon_s = time.time(), MonitorPolicy().horizon_s
    labels = FeedbackMonitor(
        tmp_path, tmp_path / "labels.json", lambda key: (None, MonitorPolicy()), _emit, clock=lambda: now
    )
    served = [("m", "1")]
    labels.limit_files(lambda: served, lambda: 1 << 20)

    async def live() -> None:
        nonlocal now, served
        answers = answers_of([Tensor("p", "FP64", np.array([[0.1, 0.9]]))])
        assert answers is not None
        AnswerWriter(tmp_path / ANSWERS, "m", "1").add(["a"], [1], answers)
        assert await labels.take("m", [Feedback("a", 1), Feedback("nobody's", 1)]) == FeedbackResult(1)
        served = [("m", "2")]
        await labels.step()
        assert labels.document(("m", "1"))["outcomes"] == {"joined": 1}  # its answer may still be rewarded
        now += 2 * horizon_s + 60.0
        await labels.step()
        assert labels.document(("m", "1"))["outcomes"] == {}
        assert labels.document(("m", ""))["outcomes"] == {"unknown": 1}

    try:
        asyncio.run(live())
    finally:
        labels.close()


def test_a_full_disk_does_not_end_the_deletion_that_frees_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    labels = FeedbackMonitor(
        tmp_path, tmp_path / "labels.json", lambda key: (None, MonitorPolicy()), _emit, clock=lambda: now
    )
    labels.limit_files(lambda: [("m", "1")], lambda: 0)
    answers = answers_of([Tensor("p", "FP64", np.array([[0.1, 0.9]]))])
    assert answers is not None
    AnswerWriter(tmp_path / ANSWERS, "m", "1").add(["id"], [1], answers)
    (tmp_path / CAPTURES).mkdir()
    capture = tmp_path / CAPTURES / f"m@1{SUFFIX}"
    capture.write_bytes(b"rows")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    began = labels.task.last_success
    try:
        with monkeypatch.context() as patched:
            patched.setattr(AnswerStore, "sweep", full)
            asyncio.run(labels.task.attempt())
        assert labels.task.failures == 1
        assert not capture.exists()  # what can be swept is
        now += 10 * MonitorPolicy().horizon_s
        asyncio.run(labels.task.attempt())
        assert labels.task.failures == 1
        assert labels.task.last_success > began
        assert not list((tmp_path / ANSWERS).iterdir())
    finally:
        labels.close()


def test_labels_of_one_version_that_cannot_be_read_stop_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = FeedbackMonitor(tmp_path, tmp_path / "labels.json", lambda key: (None, MonitorPolicy()), _emit)
    labels.limit_files(lambda: [("m", "1"), ("m", "2")], lambda: 0)
    asked: list[str] = []

    def labelled(_: AnswerStore, _model: str, version: str, _most: int) -> list[object]:
        asked.append(version)
        if version == "1":
            raise ValueError("a damaged file")
        return []

    monkeypatch.setattr(AnswerStore, "labelled", labelled)
    began = labels.task.last_success
    try:
        asyncio.run(labels.task.attempt())
        assert asked == ["1", "2"]
        assert labels.task.last_success > began
    finally:
        labels.close()


LOADED = """
import asyncio, sys
from pathlib import Path
from penstock.control.monitoring.feedback import FeedbackMonitor
from penstock.core.policies import MonitorPolicy
folder = Path(sys.argv[1])
labels = FeedbackMonitor(folder, folder / "labels.json", lambda key: (None, MonitorPolicy()), None)
labels.limit_files(lambda: [("m", "1")], lambda: 0)
asyncio.run(labels.step())
print(list(labels._store.versions("m")), "river" in sys.modules)
labels.close()
"""


@pytest.mark.processes
def test_answers_alone_load_nothing_that_only_labels_need(tmp_path: Path) -> None:
    answers = answers_of([Tensor("p", "FP64", np.array([[0.5, 0.5]]))])
    assert answers is not None
    AnswerWriter(tmp_path / ANSWERS, "m", "1").add(["first"], [1], answers)
    said = subprocess.run([sys.executable, "-c", LOADED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "['1'] False"


def test_labels_that_could_not_be_joined_are_to_be_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = FeedbackMonitor(tmp_path, tmp_path / "labels.json", lambda key: (None, MonitorPolicy()), _emit)

    def unreadable(_: AnswerStore, _model: str, feedback: list[Feedback], *__: object) -> JoinResult:
        return JoinResult([], [], [], [], [], [], list(feedback))

    monkeypatch.setattr(AnswerStore, "join_feedback", unreadable)
    try:
        with pytest.raises(NotReady, match="1 labels could not be joined now; send them again later"):
            asyncio.run(labels.take("m", [Feedback("a", 1)]))
    finally:
        labels.close()


def test_a_new_reference_replays_stored_labels_and_dropped_answers_are_counted(tmp_path: Path) -> None:
    now = time.time()
    labels = FeedbackMonitor(
        tmp_path,
        tmp_path / "labels.json",
        lambda key: (None, MonitorPolicy()),
        _emit,
        clock=lambda: now,
        budget=AnswerBudget(0, 0),
    )
    labels.limit_files(lambda: [("m", "1")], lambda: 1 << 20)
    answers = answers_of([Tensor("p", "FP64", np.array([[0.1, 0.9]]))])
    assert answers is not None
    AnswerWriter(tmp_path / ANSWERS, "m", "1").add(["a"], [1], answers)
    try:
        asyncio.run(labels.take("m", [Feedback("a", 1)]))
        before = labels.document(("m", "1"))
        labels.forget(("m", "1"))
        labels.forget(("m", "9"))  # nothing is known of it
        asyncio.run(labels.step())
        assert labels.document(("m", "1"))["labels"] == before["labels"]
        dropped = [reading for reading in labels.readings() if reading.metric is metrics.ANSWERS_DROPPED]
        assert [reading.labels for reading in dropped if isinstance(reading, Point)] == [("m",)]
    finally:
        labels.close()
