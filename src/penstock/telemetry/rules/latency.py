"""Recording rules of latency: quantiles over all gateways, which add up bucket by bucket."""

from penstock.telemetry import metrics
from penstock.telemetry.promql import select, sum_by
from penstock.telemetry.rules.counted import LIVE
from penstock.telemetry.rules.rule import Recording

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def latency_recordings() -> list[Recording]:
    """Return a rule for each quantile of each version."""
    buckets = select(metrics.REQUEST_DURATION, LIVE, suffix="_bucket", window="5m")
    by_edge = sum_by("job, model, version, le", f"rate({buckets})")
    return [
        Recording(f"penstock:request_duration_seconds:{name}_5m", f"histogram_quantile({quantile}, {by_edge})")
        for name, quantile in QUANTILES.items()
    ]
