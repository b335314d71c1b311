"""What is usual at a time: of the whole reference without hours, of the hour with them; and the tolerance of both."""

import numpy as np

from penstock.core.bins import FeatureBins, FeatureKind
from penstock.core.statistics.change_detection import NEGLIGIBLE
from penstock.core.statistics.seasons import MONDAY_S
from penstock.monitor.reference import Feature
from penstock.monitor.seasonal_baseline import SeasonalBaseline

HOUR_S = 3600
BINS = FeatureBins("x", FeatureKind.CATEGORICAL, values=("day", "night"))
NIGHT, DAY = (0, 900, 0, 0, 0), (900, 0, 0, 0, 0)


def test_without_hours_the_whole_reference_is_usual_at_any_time() -> None:
    baseline = SeasonalBaseline([Feature(BINS, (450, 450, 0, 0, 0), seasonal_variation=0.02)])
    assert [baseline.turn(float(hour * HOUR_S)) for hour in range(48)] == [False] * 48
    assert baseline.usual[0].tolist() == [450, 450, 0, 0, 0]
    (tolerance,) = baseline.tolerance
    assert tolerance == NEGLIGIBLE + 0.02 + baseline.sampling[0]


def test_with_hours_the_usual_counts_turn_with_the_quarter_of_an_hour() -> None:
    hours = (NIGHT,) * 12 + (DAY,) * 12
    baseline = SeasonalBaseline([Feature(BINS, (10_800, 10_800, 0, 0, 0), hours=hours)])
    assert baseline.turn(MONDAY_S + 5.5 * HOUR_S)
    assert int(np.argmax(baseline.usual[0])) == 1
    assert not baseline.turn(MONDAY_S + 5.5 * HOUR_S + 60)
    assert baseline.turn(MONDAY_S + 17.5 * HOUR_S)
    assert int(np.argmax(baseline.usual[0])) == 0
