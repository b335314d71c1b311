"""The metrics of all monitors; the series of a version continue when its reference changes."""

from collections.abc import Collection, Mapping

from penstock.control.monitoring.drift.version_series import Carried, VersionSeries
from penstock.core.versions import VersionKey
from penstock.monitor.verdicts import VersionMonitor


class MonitorSeries:
    """Series by version, for one event loop. ``carried`` has the counter values of the previous process; ``is_unsaved``
    means that carried values have changed and must be written."""

    def __init__(self, carried: Mapping[VersionKey, Carried]) -> None:
        self.is_unsaved = False
        self._carried = dict(carried)
        self._series: dict[VersionKey, VersionSeries] = {}

    def retain(self, served: Collection[VersionKey]) -> None:
        """Forget the series of all other versions."""
        self._series = {key: series for key, series in self._series.items() if key in served}

    def of(self, key: VersionKey, monitor: VersionMonitor) -> VersionSeries:
        """Return the series of a version with this monitor; counters of an earlier reference are carried over."""
        labels = self._series.get(key)
        if labels is not None and labels.monitor is monitor:
            return labels
        carried = self._carried.pop(key, None) if labels is None else labels.carried()
        self.is_unsaved = True
        series = self._series[key] = VersionSeries(key, monitor, carried)
        return series

    def before(self, key: VersionKey) -> Carried:
        """Return the values of a version's counters before its present reference."""
        labels = self._series.get(key)
        return self._carried.get(key, {}) if labels is None else labels.before
