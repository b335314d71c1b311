"""What became of what people said of answers, added up over the segments that were searched."""

from penstock.monitor.answers import CLASS
from penstock.monitor.told import Joined, Rewarded, Taken, Told


def test_what_became_of_several_parts_is_added_up_and_begins_with_nothing() -> None:
    joined, rewarded = Joined("1", CLASS, 1.0, (), 1.0, 0.0), Rewarded("1", 0.5, 0.0, by_split=True)
    whole, other = Taken.nothing(), Taken.nothing()
    for number in range(2):
        told = Told(str(number))
        whole.add(Taken([joined], [rewarded], ["late"], ["doubled"], ["unusable"], [told], [told]))
    assert whole == Taken(
        [joined] * 2,
        [rewarded] * 2,
        ["late"] * 2,
        ["doubled"] * 2,
        ["unusable"] * 2,
        [Told("0"), Told("1")],
        [Told("0"), Told("1")],
    )
    assert other == Taken([], [], [], [], [], [], [])  # no two share their lists
