"""What the monitor asks of this gateway's workers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from penstock.core.desired import Desired, VersionStatus
from penstock.monitor.counters.layout import Cells
from penstock.monitor.counters.totals import Totals


class Workers(Protocol):
    """One gateway's workers, all together."""

    @property
    def workers(self) -> int:
        """How many there should be."""

    @property
    def desired(self) -> Desired:
        """What they are to serve."""

    def statuses(self) -> list[VersionStatus]:
        """Every version of every model."""

    def feature_names(self, model: str, version: str) -> Sequence[str]:
        """What a version's graph, or else its model card, calls its features."""

    def graph(self, model: str, version: str) -> tuple[Path, str, Path] | None:
        """A version's graph, its configuration (protobuf JSON), and where the files lie that this names."""

    def regions(self, offset: int, size: int) -> list[Cells]:
        """A region of every worker's words."""

    def clear_region(self, offset: int, size: int) -> None:
        """Zero a region."""

    def totals(self, model: str, version: str) -> Totals:
        """What a version was counted by."""

    def renew(self) -> None:
        """Tell the workers what is different now."""
