"""The workers of this gateway, as the monitor needs them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from penstock.core.desired import Desired, VersionStatus
from penstock.monitor.counters.layout import Cells
from penstock.monitor.counters.totals import Totals


class MonitoredWorkers(Protocol):
    """All workers of one gateway."""

    @property
    def workers(self) -> int:
        """The desired number of workers."""

    @property
    def desired(self) -> Desired:
        """The desired state."""

    def statuses(self) -> list[VersionStatus]:
        """Return the status of every version of every model."""

    def feature_names(self, model: str, version: str) -> Sequence[str]:
        """Return the feature names of a version, from its graph or else its model card."""

    def graph(self, model: str, version: str) -> tuple[Path, str, Path] | None:
        """Return a version's graph, its configuration (protobuf JSON), and the folder of the files that this names."""

    def regions(self, offset: int, size: int) -> list[Cells]:
        """Return one region of every worker's cells; offset and size are in cells."""

    def clear_region(self, offset: int, size: int) -> None:
        """Set a region to zero in every worker."""

    def totals(self, model: str, version: str) -> Totals:
        """Return the counts of a version's requests over all workers."""

    def renew(self) -> None:
        """Send the workers the changed desired state."""
