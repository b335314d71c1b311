"""The parts of the false alarm budget that each group of tests of a version has; together they are all of it."""

from typing import Final

from penstock.core.policies import MonitorPolicy

QUALITY_SHARE: Final = 0.05
"""Invalid values show at once, so alarms about them need little of the budget."""

SLICES_SHARE: Final = 0.1
ATTRIBUTIONS_SHARE: Final = 0.05
"""The part of the attributions, while the policy has live rows explained."""

COLUMNS_SHARE: Final = 0.85


def columns_share(policy: MonitorPolicy) -> float:
    """Return the part of the columns of inputs and outputs."""
    return COLUMNS_SHARE - (ATTRIBUTIONS_SHARE if policy.explained_rate else 0.0)
