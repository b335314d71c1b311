"""The memory for labels: which answers are remembered, and how feedback is joined to them."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.tensors import Tensor
from penstock.monitor import answer_segments
from penstock.monitor.answer_budget import DEFAULT_BUDGET, AnswerBudget
from penstock.monitor.answer_segments import AnswerWriter
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.answers import CLASS, LONGEST_TEXT, NUMBER, TEXT, answers_of, keys_of, prefix_of, text_token
from penstock.monitor.feedback import Feedback, RewardedAnswer

NOW = 2_000_000_000.0
HORIZON = 3600.0


def scores(*rows: list[float]) -> Tensor:
    return Tensor("p", "FP32", np.array(rows, "<f4"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


def remember(writer: AnswerWriter, ids: list[str], *rows: list[float]) -> None:
    found = answers_of([scores(*rows)])
    assert found is not None
    writer.add(ids, [len(rows) // len(ids)] * len(ids), found)


@pytest.mark.parametrize(
    ("outputs", "form", "values"),
    [
        ([Tensor("label", "INT64", np.array([2, 0])), scores([0, 0, 1], [1, 0, 0])], CLASS, [2, 0]),
        ([scores([0.1, 0.9], [0.8, 0.2])], CLASS, [1, 0]),
        ([Tensor("t", "BYTES", np.array([["cat"], [b"dog"]], object))], TEXT, [text_token("cat"), text_token("dog")]),
        ([Tensor("y", "FP32", np.array([[1.5], [2.5]], "<f4"))], NUMBER, [1.5, 2.5]),
        ([Tensor("n", "INT64", np.array(4))], CLASS, [4]),
        ([Tensor("b", "BOOL", np.array([True, False]))], CLASS, [1, 0]),
    ],
)
def test_what_was_predicted(outputs: list[Tensor], form: int, values: list[float]) -> None:
    found = answers_of(outputs)
    assert found is not None
    assert (found.form, found.values.tolist()) == (form, values)


def test_a_model_without_rows_answers_one() -> None:
    found = answers_of([Tensor("p", "FP32", np.array([0.2, 0.7, 0.1], "<f4"))], batching=False)
    assert found is not None
    assert found.values.tolist() == [1.0]
    assert found.scores[0, :3].tolist() == pytest.approx([0.2, 0.7, 0.1])
    assert answers_of([]) is None
    assert answers_of([Tensor("e", "FP32", np.zeros((0, 2), "<f4"))]) is None


@pytest.mark.parametrize("columns", [2, 5])
def test_scores_out_of_the_range_of_fp32_are_infinite(columns: int) -> None:
    found = answers_of([Tensor("p", "FP64", np.full((1, columns), 1e308))])
    assert found is not None
    assert np.isposinf(found.scores[0, 0])


def test_of_many_classes_the_greatest_score_is_kept() -> None:
    found = answers_of([scores([0.1, 0.1, 0.1, 0.1, 0.6])])
    assert found is not None
    assert found.scores[0, 0] == pytest.approx(0.6)
    assert np.isnan(found.scores[0, 1:]).all()


@given(st.lists(st.text(max_size=60), unique=True, min_size=1, max_size=50), st.lists(st.text(max_size=60), max_size=5))
def test_the_hash_of_an_id_is_its_own_whatever_is_beside_it(ids: list[str], others: list[str]) -> None:
    ids = list(dict.fromkeys(id_.encode(errors="replace").decode().rstrip("\0") for id_ in ids))
    others = [other.encode(errors="replace").decode() for other in others]
    found = keys_of("m", ids)
    assert len(set(found.tolist())) == len(ids)
    assert keys_of("m", [*others, *ids])[len(others) :].tolist() == found.tolist()
    assert not set(found.tolist()) & set(keys_of("other", ids).tolist())


@pytest.mark.usefixtures("clock")
def test_answers_of_the_split_are_distinguished_from_those_of_rules_and_pins(tmp_path: Path) -> None:
    writer, store = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path)
    found = answers_of([scores([0.2, 0.8], [0.9, 0.1], [0.9, 0.1])])
    assert found is not None
    writer.add(["a", "b"], [2, 1], found, [True, False])
    taken = store.join_feedback("m", [Feedback("a", [1, 1], 0.5), Feedback("b", 1, 0.5)], NOW + 10, HORIZON)
    assert [(row.answered_at, row.by_split) for row in taken.joined] == [(NOW, True), (NOW, True), (NOW, False)]
    assert [(reward.answered_at, reward.by_split) for reward in taken.rewards] == [(NOW, True), (NOW, False)]


@pytest.mark.usefixtures("clock")
def test_labels_find_their_answers_once(tmp_path: Path) -> None:
    writer, store = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path)
    remember(writer, ["a", "b"], [0.2, 0.8], [0.9, 0.1])
    feedback = [
        Feedback("a", 1),
        Feedback("b", "1"),
        Feedback("c", 1),
        Feedback("a", 0),
        Feedback("b", reward=0.5),
        Feedback("b", reward=0.1),
    ]
    taken = store.join_feedback("m", feedback, NOW + 10, HORIZON)
    assert [(row.answer, row.label, row.right, row.at) for row in taken.joined] == [
        (1.0, 1.0, True, NOW + 10),
        (0.0, 1.0, False, NOW + 10),
    ]
    assert taken.joined[0].scores[:2] == pytest.approx((0.2, 0.8))
    rewarded = RewardedAnswer("1", 0.5, NOW, by_split=False)
    assert (taken.rewards, taken.duplicates, [item.id for item in taken.unknown]) == ([rewarded], ["1", "1"], ["c"])
    assert AnswerStore(tmp_path).join_feedback("m", [Feedback("a", 1)], NOW, HORIZON).duplicates == [
        "1"
    ]  # also after a restart
    assert [row.label for row in AnswerStore(tmp_path).labelled("m", "1", 10)] == [1.0, 1.0]
    assert store.join_feedback("other", [Feedback("a", 1)], NOW, HORIZON).unknown == [Feedback("a", 1)]


@pytest.mark.usefixtures("clock")
def test_rows_of_a_batch_have_labels_each(tmp_path: Path) -> None:
    writer, store = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path)
    remember(writer, ["a", "b"], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7], [0.6, 0.4])
    taken = store.join_feedback("m", [Feedback("b", [1, None]), Feedback("a", [1, 1, 1])], NOW, HORIZON)
    assert [(row.answer, row.label) for row in taken.joined] == [(1.0, 1.0), (1.0, 1.0), (0.0, 1.0)]
    assert store.join_feedback("m", [Feedback("b", [0, 0])], NOW, HORIZON).duplicates == ["1"]
    assert store.labels("m", "1", ["a", "b", "c"]) == {"a": [1.0, 1.0], "b": [1.0, 0.0]}


@pytest.mark.usefixtures("clock")
def test_expired_feedback_and_unusable_labels_are_counted_separately(tmp_path: Path) -> None:
    writer, store = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path)
    remember(writer, ["a", "b"], [0.2, 0.8], [0.9, 0.1])
    taken = store.join_feedback("m", [Feedback("a", 1)], NOW + HORIZON + 1, HORIZON)
    assert (taken.expired, taken.joined) == (["1"], [])
    taken = store.join_feedback("m", [Feedback("a", 1, at=NOW + 5)], NOW + 2 * HORIZON, HORIZON)  # it was known in time
    assert [row.at for row in taken.joined] == [NOW + 5]
    assert store.join_feedback("m", [Feedback("b", "cat")], NOW, HORIZON).unusable == ["1"]
    assert store.join_feedback("m", [Feedback("b", float("nan"))], NOW, HORIZON).unusable == ["1"]


@pytest.mark.usefixtures("clock")
def test_an_id_that_is_used_again_means_the_last_answer(tmp_path: Path) -> None:
    writer, store = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path)
    remember(writer, ["a"], [0.2, 0.8])
    remember(writer, ["a"], [0.9, 0.1])
    assert [row.answer for row in store.join_feedback("m", [Feedback("a", 1)], NOW, HORIZON).joined] == [0.0]


@pytest.mark.usefixtures("clock")
def test_full_segments_are_found_by_their_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_segments, "CAPACITY", 64)
    writer, store = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path)
    for number in range(0, 400, 8):
        remember(writer, [f"r{number + item}" for item in range(8)], *[[0.2, 0.8]] * 8)
    for wanted in (range(400), range(3)):  # many at a time are looked for in another way
        taken = store.join_feedback("m", [Feedback(f"r{number}", 1) for number in wanted], NOW, HORIZON)
        assert len(taken.joined) + len(taken.duplicates) == len(wanted)
    files = {path.suffix for path in tmp_path.iterdir()}
    assert files == {".answers", ".index"}
    assert len(AnswerStore(tmp_path).labelled("m", "1", 1000)) == 400
    assert AnswerStore(tmp_path).join_feedback(
        "m", [Feedback("r0", 1), Feedback("r399", 1)], NOW, HORIZON
    ).duplicates == [
        "1",
        "1",
    ]


@pytest.mark.usefixtures("clock")
def test_a_disk_that_fails_to_read_an_index_fails_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_segments, "CAPACITY", 64)
    remember(AnswerWriter(tmp_path, "m", "1"), [f"r{number}" for number in range(64)], *[[0.2, 0.8]] * 64)
    store, feedback = AnswerStore(tmp_path), [Feedback("r63", 1)]
    assert store.join_feedback("m", [Feedback("r0", 1)], NOW, HORIZON).joined

    def failing(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("os.pread", failing)
        taken = store.join_feedback("m", feedback, NOW, HORIZON)
        assert (taken.joined, taken.failed, taken.unknown) == ([], feedback, [])
        store.sweep(tmp_path.stat().st_mtime, HORIZON, DEFAULT_BUDGET)  # it goes by the age of its file
    assert len(store.join_feedback("m", feedback, NOW, HORIZON).joined) == 1


@pytest.mark.usefixtures("clock")
def test_an_index_that_is_cut_off_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_segments, "CAPACITY", 64)
    remember(AnswerWriter(tmp_path, "m", "1"), [f"r{number}" for number in range(64)], *[[0.2, 0.8]] * 64)
    assert AnswerStore(tmp_path).join_feedback("m", [Feedback("r0", 1)], NOW, HORIZON).joined
    [index] = tmp_path.glob("*.index")
    os.truncate(index, 100)
    assert AnswerStore(tmp_path).join_feedback("m", [Feedback("r63", 1)], NOW, HORIZON).joined


@pytest.mark.usefixtures("clock")
def test_on_a_full_disk_answers_are_found_without_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_segments, "CAPACITY", 64)
    remember(AnswerWriter(tmp_path, "m", "1"), [f"r{number}" for number in range(64)], *[[0.2, 0.8]] * 64)
    store = AnswerStore(tmp_path)

    def full(*_: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("penstock.monitor.answer_index.replace_file", full)
        assert len(store.join_feedback("m", [Feedback("r0", 1)], NOW, HORIZON).joined) == 1
    assert len(store.join_feedback("m", [Feedback("r63", 1)], NOW, HORIZON).joined) == 1
    assert len(list(tmp_path.glob("*.index"))) == 1


@pytest.mark.usefixtures("clock")
def test_files_are_bounded_by_budget_and_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_segments, "CAPACITY", 64)
    writer, store = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path)
    for number in range(640):
        remember(writer, [f"r{number}"], [0.2, 0.8])
    budget = AnswerBudget(3 * 8192, 1 << 20)  # a segment and its index take a page each
    assert store.sweep(NOW, HORIZON, budget) == {prefix_of("m"): 640 - 3 * 64}
    assert len(list(tmp_path.glob("*.answers"))) == 3
    assert store.join_feedback("m", [Feedback("r0", 1), Feedback("r639", 1)], NOW, HORIZON).unknown == [
        Feedback("r0", 1)
    ]
    store.sweep(NOW + 2 * HORIZON + 1, HORIZON, budget)
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_a_segment_is_mapped(tmp_path: Path, clock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_segments, "CAPACITY", 1024)
    writer, store = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path)
    for start in range(0, 3000, 500):
        remember(writer, [f"r{start + number}" for number in range(500)], *[[0.2, 0.8]] * 500)
    assert len(store.join_feedback("m", [Feedback("r2999", 1)], NOW, HORIZON).joined) == 1
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    store.sweep(NOW, HORIZON, DEFAULT_BUDGET)
    assert store.join_feedback("m", [Feedback("r2999", 1)], NOW, HORIZON).duplicates == ["1"]  # nothing is forgotten


@pytest.mark.usefixtures("clock")
def test_a_label_that_cannot_be_written_down_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, store = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path)
    remember(writer, ["r1"], [0.2, 0.8])
    feedback = [Feedback("r1", 1, reward=0.5), Feedback("r2", 1)]

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        taken = store.join_feedback("m", feedback, NOW, HORIZON)
    assert (taken.joined, taken.rewards, taken.failed, taken.unknown) == ([], [], feedback[:1], feedback[1:])
    again = store.join_feedback("m", feedback, NOW, HORIZON)
    assert (len(again.joined), len(again.rewards), again.duplicates, again.failed) == (1, 1, [], [])


@pytest.mark.usefixtures("clock")
def test_labels_that_cannot_be_written_down_are_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer, store = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path)
    remember(writer, ["r1", "r2"], [0.2, 0.8], [0.2, 0.8])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        store.join_feedback("m", [Feedback("r1", 1), Feedback("r2", 1)], NOW, HORIZON)
    assert [record.getMessage() for record in caplog.records] == [
        "2 labels could not be joined: No space left on device"
    ]


@pytest.mark.usefixtures("clock")
def test_a_torn_record_hides_nothing_that_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, store, pwrite = AnswerWriter(tmp_path, "m", "1"), AnswerStore(tmp_path), os.pwrite
    remember(writer, ["r1"], [0.2, 0.8])
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", lambda handle, data, at: pwrite(handle, data[:100], at))
        remember(writer, ["r2", "r3"], [0.2, 0.8], [0.2, 0.8])
    remember(writer, ["r4"], [0.2, 0.8])
    feedback = [Feedback(f"r{number}", 1) for number in (1, 2, 4)]
    taken = store.join_feedback("m", feedback, NOW, HORIZON)
    assert (len(taken.joined), taken.unknown, taken.expired, writer.lost) == (3, [], [], 1)


@pytest.mark.usefixtures("clock")
def test_a_segment_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path)
    for version in "12":
        remember(AnswerWriter(tmp_path, "m", version), [f"r{version}"], [0.2, 0.8])
    assert store.versions("m") == {"1", "2"}
    [broken] = tmp_path.glob("*@2@*.answers")
    broken.rename(tmp_path / "elsewhere")
    broken.mkdir()
    taken = store.join_feedback("m", [Feedback("r1", 1), Feedback("r2", 1)], NOW, HORIZON)
    assert ([item.version for item in taken.joined], taken.failed) == (["1"], [Feedback("r2", 1)])  # it may be there


def test_a_disk_that_is_full_loses_rows_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = AnswerWriter(tmp_path, "m", "1")
    remember(writer, ["a"], [0.2, 0.8])

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    remember(writer, ["b"], [0.2, 0.8])
    assert writer.lost == 1
    writer.close()


def test_long_texts_are_distinguished_by_their_beginning_and_length() -> None:
    long = "é" * LONGEST_TEXT
    tokens = [text_token(text) for text in (long, long + "a", long + "ab", "e" + long, long[:-1])]
    assert len(set(tokens)) == 5
    assert text_token(long + "a") == text_token(long + "b")


def test_a_clock_that_is_set_back_makes_no_new_file_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    files: list[str] = []
    for clock in (now, now - 3600 * 10**9, now - 86_400 * 10**9, now + 10**9):
        monkeypatch.setattr(time, "time_ns", lambda clock=clock: clock)
        writer = AnswerWriter(tmp_path, "m", "1")
        remember(writer, [f"r{clock}"], [0.1, 0.9])
        writer.close()
        [made] = {path.name for path in tmp_path.iterdir()} - set(files)
        files.append(made)
    assert files == sorted(files)
    store = AnswerStore(tmp_path)
    one = next(tmp_path.iterdir()).stat().st_blocks * 512
    store.sweep(time.time(), HORIZON, AnswerBudget(one * 2, one * 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == files[2:]
