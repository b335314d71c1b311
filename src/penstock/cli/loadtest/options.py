"""The options of `penstock loadtest`, and what of them does not go together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.cli.requests import BadData
from penstock.loadtest.objectives import LoadObjective, parse_objective
from penstock.loadtest.runs import LoadPlan
from penstock.loadtest.schedule import MOST_REQUESTS, Arrivals, Ramp, parse_ramp, steady_rate

DEFAULT_RATE = 100.0
DEFAULT_SECONDS = 30.0
WINDOW_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTestOptions:
    """The command line; ``files`` are the places of the reports by their form."""

    name: str
    rate: float | None
    ramp: str | None
    seconds: float | None
    warmup: float
    by_grpc: bool
    rows: Path | None
    reference: str | None
    rows_per_request: int
    shapes: tuple[str, ...]
    against: str | None
    slo: tuple[str, ...]
    find_capacity: bool
    budget: float
    connections: int
    arrivals: str
    timeout: float
    max_lag: float
    seed: int
    files: Mapping[str, Path | None]
    url: str | None

    @property
    def model_and_version(self) -> tuple[str, str]:
        """The model, and the version or alias ("": the route decides)."""
        name, colon, version = self.name.rpartition(":")
        return (name, version) if colon else (self.name, "")


@dataclass(frozen=True, slots=True)
class LoadTestSettings:
    """What the options ask for."""

    plan: LoadPlan
    objectives: tuple[LoadObjective, ...]
    arrivals: Arrivals


def read_options(options: LoadTestOptions) -> LoadTestSettings:
    """Return what the options ask for.

    Raises:
        BadData: an option has another form than expected, or does not go with another one.
    """
    try:
        objectives = tuple(parse_objective(text) for text in options.slo)
        ramp = _parse_ramp(options)
    except ValueError as fault:
        raise BadData(str(fault)) from None
    _check(options, objectives)
    seconds = options.seconds or (WINDOW_SECONDS if options.find_capacity else max(DEFAULT_SECONDS, ramp.seconds))
    if not _most_expected(ramp, seconds, options.warmup) <= MOST_REQUESTS:  # NaN too, of an infinite rate
        raise BadData(f"expected at most {MOST_REQUESTS:,} requests; lower --rate, --seconds or --warmup")
    arrivals: Arrivals = "constant" if options.arrivals == "constant" else "poisson"
    return LoadTestSettings(LoadPlan(ramp, seconds, options.warmup, options.seed), objectives, arrivals)


def _most_expected(ramp: Ramp, seconds: float, warmup: float) -> float:
    """Return the requests of the longest schedule; the warm-up has at least one request a second."""
    warming = steady_rate(max(ramp.start, 1.0)).expected(warmup)
    return max(ramp.expected(seconds), warming)


def _parse_ramp(options: LoadTestOptions) -> Ramp:
    if options.ramp is None:
        return steady_rate(DEFAULT_RATE if options.rate is None else options.rate)
    try:
        return parse_ramp(options.ramp)
    except ValueError as fault:
        raise ValueError(f"--ramp: {fault}") from None


def _check(options: LoadTestOptions, objectives: tuple[LoadObjective, ...]) -> None:
    plain = [objective for objective in objectives if not objective.is_ratio]
    faults = {
        "--rate and --ramp exclude each other; give one": options.rate is not None and options.ramp is not None,
        "--rows and --reference exclude each other; give one": options.rows is not None and bool(options.reference),
        "expected the name of a model, alone or with a version: NAME[:V]": not options.model_and_version[0],
        "--find-capacity needs an objective: give --slo, such as --slo 'p99<20ms'": options.find_capacity and not plain,
        "--find-capacity tries rates of one version: leave out --ramp and --against": options.find_capacity
        and (options.ramp is not None or options.against is not None),
        "--against compares at one rate: give --rate instead of --ramp": options.ramp is not None
        and options.against is not None,
        "--find-capacity chooses the rate itself: leave out objectives of the rate": options.find_capacity
        and any(objective.metric == "rate" for objective in plain),
        "--against: expected a version, or the address of a gateway": options.against == "",
        "a ratio compares two versions: give --against with it": options.against is None
        and len(plain) < len(objectives),
        f"--arrivals: expected poisson or constant (got '{options.arrivals}')": options.arrivals
        not in ("poisson", "constant"),
    }
    for text, is_fault in faults.items():
        if is_fault:
            raise BadData(text)
