"""Recording rules and burn-rate alerts of a model's service-level objectives (``slo`` of its policy).

A burn rate of 1 uses up exactly what an objective allows in ``PERIOD``. An alert needs a high rate over a long window,
which shows that it matters, and over a short one, which shows that it still goes on: the windows and factors are those
of "Alerting on SLOs" (The Site Reliability Workbook, chapter 5) for 30 days.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from penstock.core.buckets import LATENCY_EDGES_NS
from penstock.core.errors import Refused
from penstock.core.triggers.burn_rate import find_error_budgets
from penstock.telemetry import metrics
from penstock.telemetry.promql import increase_by, make_matcher, max_by, rate_by, select, select_name
from penstock.telemetry.rules.counted import COUNTED, GUARD, LIVE, counted_requests, select_failures
from penstock.telemetry.rules.rule import Alert, Group, Recording, Severity, labels_of

PERIOD = "30d"
TOLERANCE = 0.001
"""So much, as a share, a limit of latency may differ from a bucket's edge: 18.1 ms stands for 18.101934 ms."""


@dataclass(frozen=True, slots=True)
class Burn:
    """Two windows over which a burn rate above ``factor`` is an alert; ``share`` of the budget is gone by then."""

    short: str
    long: str
    share: str
    factor: float


BURNS = {
    Severity.PAGE: (Burn("5m", "1h", "2 %", 14.4), Burn("30m", "6h", "5 %", 6)),
    Severity.TICKET: (Burn("2h", "1d", "10 %", 3), Burn("6h", "3d", "10 %", 1)),
}

QUICK_WINDOWS = ("5m", "30m", "1h")
SLOW_WINDOWS = ("2h", "6h", "1d", "3d")
GUARDED = ("5m", "30m", "2h", "6h")
"""The short windows: an alert needs more than ``GUARD`` requests in them."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective: its name in series (``slo``), the share of requests that it allows to be bad, what gives the
    expression of the bad share over a window, its alert and what that says."""

    slo: str
    allowed: float
    bad: Callable[[str], str]
    alert: str
    summary: str
    meaning: str


def objective_groups(model: str, stated: Mapping[str, float], *, round_latency: bool = False) -> list[Group]:
    """Return the rules of a model's objectives as they are in its policy; none if it states none.

    ``round_latency`` takes the next smaller edge of the histogram for a latency that is not one, which is stricter.

    Raises:
        Refused: the latency is not at an edge of the histogram; the text names the nearest ones.
    """
    found = [*_list_objectives(model, stated, round_latency)]
    if not found:
        return []
    name = f"penstock-slo-{model}"
    quick = [*_record_guards(model), *(rule for item in found for rule in _record_ratios(model, item, QUICK_WINDOWS))]
    facts = [rule for item in found for rule in _record_facts(model, item)]
    slow = [rule for item in found for rule in _record_ratios(model, item, SLOW_WINDOWS)]
    alerts = [alert for item in found for alert in _make_alerts(model, item)]
    return [
        Group(f"{name}-quick", [*quick, *facts], "30s"),
        Group(f"{name}-slow", slow, "2m"),
        Group(f"{name}-alerts", alerts, "30s"),
    ]


def _list_objectives(model: str, stated: Mapping[str, float], round_latency: bool) -> Iterator[Objective]:
    allowed = find_error_budgets(stated)
    if "error_ratio" in allowed:
        yield Objective(
            "errors",
            allowed["error_ratio"],
            partial(_error_share, model),
            "PenstockErrorBudgetBurn",
            "{{ $labels.model }} fails too often to keep its objective",
            f"Its policy allows {_format_percent(allowed['error_ratio'])} failures: {COUNTED}",
        )
    if "latency_p99_ms" in allowed:
        edge_ns = latency_edge_ns(stated["latency_p99_ms"], round_latency)
        yield Objective(
            "latency",
            allowed["latency_p99_ms"],
            partial(_slow_share, model, edge_ns),
            "PenstockLatencyBudgetBurn",
            "{{ $labels.model }} is too often slow to keep its objective",
            f"Its policy allows {_format_percent(allowed['latency_p99_ms'])} requests slower than "
            f"{edge_ns / 1e6:.4g} ms.",
        )


def latency_edge_ns(limit_ms: float, round_down: bool = False) -> int:
    """Return the edge of the latency histogram that a limit is at; ``round_down`` takes the next smaller one.

    Raises:
        Refused: it is at none; the text names the nearest ones.
    """
    limit_ns = limit_ms * 1e6
    for edge in LATENCY_EDGES_NS:
        if abs(edge - limit_ns) <= TOLERANCE * edge:
            return edge
    index = bisect_left(LATENCY_EDGES_NS, limit_ns)
    if round_down and index:
        return LATENCY_EDGES_NS[index - 1]
    near = [f"{edge / 1e6:.4g}" for edge in LATENCY_EDGES_NS[max(0, index - 1) : index + 1]]
    nearest, one = ("nearest are", "one of them") if len(near) > 1 else ("nearest is", "it")
    raise Refused(
        f"'slo.latency_p99_ms' is {limit_ms:g}, but a rule can only count requests up to an edge of the histogram; "
        f"the {nearest} {' and '.join(near)} ms: set {one} in the policy"
    )


def _format_percent(share: float) -> str:
    return f"{share * 100:.4g} %"


def _error_share(model: str, window: str) -> str:
    """Return the share of failures: 0 where nothing has failed, nothing where nobody asked."""
    chosen = make_matcher("model", model)
    bad = rate_by("job, model", select_failures(chosen, window=window))
    total = rate_by("job, model", counted_requests(chosen, window=window))
    return f"({bad} or {total} * 0)\n/ ({total} > 0)\n"


def _slow_share(model: str, edge_ns: int, window: str) -> str:
    chosen = make_matcher("model", model)
    le = make_matcher("le", repr(edge_ns / 1e9))
    quick = select(metrics.REQUEST_DURATION, chosen, LIVE, le, suffix="_bucket", window=window)
    total = select(metrics.REQUEST_DURATION, chosen, LIVE, suffix="_count", window=window)
    return f"1 - {rate_by('job, model', quick)}\n/ ({rate_by('job, model', total)} > 0)\n"


def _record_guards(model: str) -> Iterator[Recording]:
    for window in GUARDED:
        total = counted_requests(make_matcher("model", model), window=window)
        yield Recording(f"penstock:slo_requests:increase{window}", increase_by("job, model", total), {"model": model})


def _record_ratios(model: str, objective: Objective, windows: tuple[str, ...]) -> Iterator[Recording]:
    for window in windows:
        labels = {"model": model, "slo": objective.slo}
        yield Recording(_name_ratio(window), objective.bad(window), labels)


def _name_ratio(window: str) -> str:
    return f"penstock:slo_errors:ratio_rate{window}"


def _record_facts(model: str, objective: Objective) -> Iterator[Recording]:
    """Yield what dashboards show: the objective, what it allows, and how much of that is left."""
    labels = {"model": model, "slo": objective.slo}
    chosen = make_matcher("model", model), make_matcher("slo", objective.slo)
    month = select_name(_name_ratio("5m"), *chosen, window=PERIOD)
    budget = repr(objective.allowed)
    zero = f"{max_by('job, model', select(metrics.CONCURRENCY_LIMIT, chosen[0]))} * 0"
    yield Recording("penstock:slo_objective:ratio", f"{zero} + {1 - objective.allowed!r}", labels)
    yield Recording("penstock:slo_error_budget:ratio", f"{zero} + {budget}", labels)
    yield Recording(_name_ratio(PERIOD), f"sum_over_time({month})\n/ count_over_time({month})\n", labels)
    yield Recording(
        "penstock:slo_current_burn_rate:ratio", f"{select_name(_name_ratio('5m'), *chosen)} / {budget}", labels
    )
    yield Recording(
        "penstock:slo_period_burn_rate:ratio", f"{select_name(_name_ratio(PERIOD), *chosen)} / {budget}", labels
    )
    remaining = select_name("penstock:slo_period_burn_rate:ratio", *chosen)
    yield Recording("penstock:slo_period_error_budget_remaining:ratio", f"1 - {remaining}", labels)


def _make_alerts(model: str, objective: Objective) -> Iterator[Alert]:
    for severity, burns in BURNS.items():
        reachable = [burn for burn in burns if burn.factor * objective.allowed < 1]
        if not reachable:  # every request may be bad without that burn rate
            continue
        shares = " or ".join(f"{item.share} in {item.long}" for item in reachable)
        yield Alert(
            objective.alert,
            severity,
            "\nor\n".join(_select_burns(model, objective, burn) for burn in reachable) + "\n",
            objective.summary,
            f"{objective.meaning} At this rate, it uses up {shares} of what 30 days allow.",
            "models/{{ $labels.model | urlquery }}",
            labels=labels_of(model),
        )


def _select_burns(model: str, objective: Objective, burn: Burn) -> str:
    chosen = make_matcher("model", model), make_matcher("slo", objective.slo)
    limit = f"> {burn.factor:g} * {objective.allowed!r}"
    guard = select_name(f"penstock:slo_requests:increase{burn.short}", make_matcher("model", model))
    return (
        f"(\n  {select_name(_name_ratio(burn.short), *chosen)} {limit}\n"
        f"  and {select_name(_name_ratio(burn.long), *chosen)} {limit}\n"
        f"  and on (job, model) {guard} > {GUARD}\n)"
    )
