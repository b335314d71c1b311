"""After which answers a batch is sent again, and when."""

import pytest

from penstock.core.traces.retries import LONGEST_S, LONGEST_STATED_S, MOST_ATTEMPTS, ExportAnswer, retry_after


@pytest.mark.parametrize("status", [400, 401, 404, 408, 413, 500, 501, 301])
def test_other_statuses_drop_the_batch(status: int) -> None:
    assert retry_after(ExportAnswer(status, retry_after_s=5.0), 1, 0.0) is None


@pytest.mark.parametrize("status", [0, 429, 502, 503, 504])
def test_pauses_double_up_to_a_limit(status: int) -> None:
    answer = ExportAnswer(status)
    pauses = [retry_after(answer, attempts, 0.0) for attempts in range(1, MOST_ATTEMPTS)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_S, LONGEST_S]
    assert retry_after(answer, 1, 1.0) == 0.5
    assert retry_after(answer, MOST_ATTEMPTS, 0.0) is None


def test_the_receiver_may_ask_for_a_longer_pause() -> None:
    assert retry_after(ExportAnswer(503, retry_after_s=10.0), 1, 0.0) == 10.0
    assert retry_after(ExportAnswer(429, retry_after_s=120.0), 1, 0.0) == 120.0
    assert retry_after(ExportAnswer(429, retry_after_s=1e9), 1, 0.0) == LONGEST_STATED_S
    assert retry_after(ExportAnswer(429, retry_after_s=0.1), 3, 0.0) == 4.0


@pytest.mark.parametrize(("status", "success"), [(200, True), (204, True), (199, False), (300, False), (0, False)])
def test_only_statuses_of_success_are_one(status: int, success: bool) -> None:
    assert ExportAnswer(status).is_success is success
