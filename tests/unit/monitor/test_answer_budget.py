"""The budget of remembered answers: a model that takes little loses nothing to a busy one."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.monitor.answer_budget import AnswerBudget, AnswerFile, over_budget

SIZE = 10


def files(models: str) -> list[AnswerFile]:
    return [AnswerFile(f"{model}{place}", model, SIZE) for place, model in enumerate(models)]


@pytest.mark.parametrize(
    ("oldest_first", "model_bytes", "total_bytes", "gone"),
    [
        ("", 10, 10, []),
        ("aab", 20, 30, []),
        ("aaab", 20, 100, ["a0"]),  # a model over its own budget
        ("babaaa", 100, 40, ["a1", "a3"]),  # the old answers of a quiet model stay
        ("aabbcc", 100, 30, ["c4", "b2", "a0"]),  # equal ones give up equally
        ("a", 5, 5, ["a0"]),
    ],
)
def test_the_oldest_files_of_the_largest_model_are_deleted(
    oldest_first: str, model_bytes: int, total_bytes: int, gone: list[str]
) -> None:
    assert over_budget(files(oldest_first), AnswerBudget(model_bytes, total_bytes)) == gone


@given(st.text("abcd", max_size=40), st.integers(1, 12), st.integers(1, 40))
def test_shares_are_fair_and_no_more_goes_than_must(oldest_first: str, most_of_one: int, most: int) -> None:
    everything = files(oldest_first)
    gone = set(over_budget(everything, AnswerBudget(most_of_one * SIZE, most * SIZE)))
    kept = [item for item in everything if item.name not in gone]
    share, had = Counter(item.model for item in kept), Counter(oldest_first)
    assert sum(share.values()) <= most and all(count <= most_of_one for count in share.values())
    for model in had:
        own = [item.name for item in everything if item.model == model]
        assert own[: had[model] - share[model]] == [name for name in own if name in gone]  # the oldest of each
        if 0 < share[model] < min(had[model], most_of_one):  # it gave up for the others: so nobody has much more
            assert share[model] >= max(share.values()) - 1
            assert sum(share.values()) == most
