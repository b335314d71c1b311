"""What became of what people said of answers, added up over the segments that were searched."""

from penstock.monitor.answers import CLASS
from penstock.monitor.feedback import Feedback, JoinResult, LabelledRow, RewardedAnswer


def test_what_became_of_several_parts_is_added_up_and_begins_with_nothing() -> None:
    joined, rewarded = LabelledRow("1", CLASS, 1.0, (), 1.0, 0.0), RewardedAnswer("1", 0.5, 0.0, by_split=True)
    total, other = JoinResult.empty(), JoinResult.empty()
    for number in range(2):
        item = Feedback(str(number))
        total.add(JoinResult([joined], [rewarded], ["late"], ["doubled"], ["unusable"], [item], [item]))
    assert total == JoinResult(
        [joined] * 2,
        [rewarded] * 2,
        ["late"] * 2,
        ["doubled"] * 2,
        ["unusable"] * 2,
        [Feedback("0"), Feedback("1")],
        [Feedback("0"), Feedback("1")],
    )
    assert other == JoinResult([], [], [], [], [], [], [])  # no two share their lists
