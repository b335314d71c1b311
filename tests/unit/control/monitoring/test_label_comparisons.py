"""Which labels are compared, while the clock that answers are timed by is set."""

import pytest

from penstock.control.monitoring.label_comparisons import ComparedSignal, ComparisonTerms, LabelComparisons
from penstock.monitor.feedback import RewardedAnswer

DAY_S = 86_400.0
VERSIONS = ("1", "2")


class Setup:
    """One comparison of two versions; ``now`` is the clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.comparisons = LabelComparisons(lambda: self.now)
        self.comparisons.start(ComparisonTerms("t", "m", ComparedSignal.REWARD, 0, VERSIONS))

    def reward(self, number: int) -> None:
        rows = [
            RewardedAnswer(version, 1.0, self.now - 0.5, True, self.now) for version in VERSIONS for _ in range(number)
        ]
        self.comparisons.take("m", (), rows)

    def compared(self) -> int:
        looked = self.comparisons.closed_strata("t", 0, 0.0)
        assert looked is not None
        return int(sum(sums[0] for stratum in looked["strata"] for sums in stratum["sums"].values()))


@pytest.mark.parametrize("jump_s", [-DAY_S, -3600.0, 0.0, 3600.0, DAY_S])
def test_labels_count_soon_whatever_the_clock_does(jump_s: float) -> None:
    setup = Setup()
    for _ in range(5):
        setup.reward(10)
        setup.now += 1.0
        setup.compared()
    setup.now += jump_s
    for _ in range(5):
        setup.compared()
        setup.reward(10)
        setup.now += 1.0
    setup.now += 10.0
    assert setup.compared() == 180  # the first were of answers before the beginning


def test_labels_of_another_model_are_not_compared() -> None:
    setup = Setup()
    setup.now += 1.0
    rewards = [RewardedAnswer(version, 1.0, setup.now - 0.5, True, setup.now) for version in VERSIONS]
    setup.comparisons.take("n", (), rewards)
    setup.now += 60.0
    assert setup.compared() == 0
