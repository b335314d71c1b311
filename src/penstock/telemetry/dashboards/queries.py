"""The selectors and shapes of queries that dashboards share: every one is of the chosen jobs and gateways."""

from penstock.telemetry import metrics
from penstock.telemetry.dashboards.panel import Variable
from penstock.telemetry.metric import Metric
from penstock.telemetry.promql import rate_by, select, select_name

MOST_LINES = 10
"""Lines of a picture whose series are as many as there are models or callers."""

INTERVAL = "$__rate_interval"
GATEWAYS = ('job=~"$job"', 'instance=~"$instance"')
MODEL = 'model="$model"'
"""Grafana escapes regular expressions only in variables with several values: by ``=~``, ``v1.5`` would also be
``v105``."""

VERSION = 'version=~"$version"'


def series(metric: Metric, *matchers: str, suffix: str = "", window: str = "") -> str:
    """Return the selector of a metric's series of the chosen gateways."""
    return select(metric, *GATEWAYS, *matchers, suffix=suffix, window=window)


def recorded(name: str, *matchers: str) -> str:
    """Return the selector of series that rules record, which are sums over gateways."""
    return select_name(name, GATEWAYS[0], *matchers)


def rate(labels: str, metric: Metric, *matchers: str, suffix: str = "") -> str:
    """Return the rate of a counter by labels."""
    return rate_by(labels, series(metric, *matchers, suffix=suffix, window=INTERVAL))


def quantile(share: float, labels: str, metric: Metric, *matchers: str) -> str:
    """Return a quantile of a histogram by labels."""
    return f"histogram_quantile({share}, {rate(f'{labels}, le', metric, *matchers, suffix='_bucket')})"


def mean(labels: str, metric: Metric, *matchers: str) -> str:
    """Return the mean of a histogram by labels."""
    return f"{rate(labels, metric, *matchers, suffix='_sum')} / {rate(labels, metric, *matchers, suffix='_count')}"


def highest(query: str) -> str:
    """Return the series of a query with the highest values at each moment, as many as a picture can show."""
    return f"topk({MOST_LINES}, {query})"


MODEL_VARIABLES = (
    Variable("model", series(metrics.MODEL_STATE), several=False),
    Variable("version", series(metrics.MODEL_STATE, MODEL)),
)
