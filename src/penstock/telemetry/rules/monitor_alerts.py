"""Alerts about the data of models: drift, quality, labels, and what the monitor itself misses."""

from penstock.telemetry import metrics
from penstock.telemetry.promql import change, increase_by, max_by, one_of, rate_by, select, sum_by
from penstock.telemetry.rules.counted import GUARD
from penstock.telemetry.rules.rule import Alert, Severity

BY_MODEL = "job, model"
BY_VERSION = "job, model, version"
MONITOR_PAGE = "models/{{ $labels.model | urlquery }}/monitor"

_COUNTED = select(metrics.MONITOR_ROWS, window="10m")
_ROWS = rate_by(BY_VERSION, _COUNTED)
_VIOLATIONS = rate_by("job, model, version, feature, kind", select(metrics.QUALITY_VIOLATIONS, window="10m"))
_DROPPED = rate_by(BY_VERSION, select(metrics.MONITOR_DROPPED, window="10m"))
_LOST = select(metrics.LABELS, one_of("outcome", ("given_up", "unreadable")))

MONITOR_ALERTS = (
    Alert(
        "PenstockDrift",
        Severity.TICKET,
        f"{max_by('job, model, version, feature', select(metrics.DRIFT_STATE))} == 1",
        "{{ $labels.feature }} of {{ $labels.model }}:{{ $labels.version }} drifts",
        "The values of this input or output differ from the reference by more than chance explains.",
        MONITOR_PAGE,
        "5m",
    ),
    Alert(
        "PenstockDataQuality",
        Severity.TICKET,
        f"{_VIOLATIONS}\n"
        f"/ on ({BY_VERSION}) group_left {_ROWS} > 0.05\n"
        f"and on ({BY_VERSION}) {increase_by(BY_VERSION, _COUNTED)} > {GUARD}\n",
        "{{ $value | humanizePercentage }} of {{ $labels.feature }} in requests for {{ $labels.model }}:"
        "{{ $labels.version }} are {{ $labels.kind }}",
        "More than 5 % of the values are unsound. Drift is not meaningful meanwhile.",
        MONITOR_PAGE,
        "5m",
    ),
    Alert(
        "PenstockMonitorDropsRows",
        Severity.TICKET,
        f"{_DROPPED}\n/ ({_DROPPED} + {_ROWS}) > 0.01\n",
        "The monitor drops {{ $value | humanizePercentage }} of the rows of {{ $labels.model }}:{{ $labels.version }}",
        "Drift and quality rest on fewer rows than were predicted.",
        MONITOR_PAGE,
        "10m",
    ),
    Alert(
        "PenstockLabelsLost",
        Severity.TICKET,
        f"{sum_by(BY_MODEL, change(select(metrics.ANSWERS_DROPPED), '1h'))}\n"
        f"or {sum_by(BY_MODEL, change(_LOST, '1h'))}\n",
        "Labels of {{ $labels.model }} cannot be joined to predictions",
        "In the last hour {{ $value }} answers or labels were dropped; performance rests on fewer labels.",
        MONITOR_PAGE,
    ),
    Alert(
        "PenstockMonitorEventsDropped",
        Severity.TICKET,
        sum_by("job, instance", change(select(metrics.EVENTS_DROPPED), "1h")),
        "{{ $labels.instance }} has dropped {{ $value }} events of the monitor",
        "Too many events waited for the database, or it refused them. Rules that wait for them do not fire.",
        "timeline",
    ),
)
