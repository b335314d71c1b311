"""Labels and rewards of the simulation: each has a number of its own, so that one that counts twice is found."""

from collections import Counter
from dataclasses import dataclass, field

from penstock.core.versions import VersionKey
from penstock.monitor.answers import CLASS
from penstock.monitor.feedback import LabelledRow, RewardedAnswer


@dataclass(slots=True)
class Labels:
    """All that were told in a run: whose each is, those that may be lost because their gateway ended before it wrote
    them down, and how many rewards each version got."""

    owners: dict[float, VersionKey] = field(default_factory=dict)
    lost: set[float] = field(default_factory=set)
    rewards: Counter[VersionKey] = field(default_factory=Counter)

    def joined(self, key: VersionKey, right: bool, now: float) -> LabelledRow:
        """A row that was labelled; its number stands in the label's own time."""
        number = float(len(self.owners))
        self.owners[number] = key
        return LabelledRow(key[1], CLASS, 1.0, (), float(right), number, now - 0.5, by_split=True)

    def rewarded(self, key: VersionKey, reward: float, now: float) -> RewardedAnswer:
        """An answer that was rewarded."""
        self.rewards[key] += 1
        return RewardedAnswer(key[1], reward, now - 0.5, by_split=True)
