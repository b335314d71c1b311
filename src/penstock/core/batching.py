"""Plans which waiting calls share a run, and models the cost of a run; pure functions."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

BATCHING: Final = "batching"
"""The parameter of a configuration, and the property of a model's metadata, that holds ``BatchSharing.text``."""

MOST_ROWS: Final = 64
"""Maximum rows of a batch run; above that, a run gains little and its callers wait."""

WORTHWHILE: Final = 0.03
"""A run takes more rows until its fixed cost is this part of the cost of its rows."""

OBJECTIVE_SHARE: Final = 0.5
"""A call may wait for one run before its own: each run may take half of the latency objective."""


@dataclass(frozen=True, slots=True)
class RunCost:
    """The cost of a run: nanoseconds for the run itself, and for each row; fitted to measured runs."""

    base_ns: float
    row_ns: float

    def run_ns(self, rows: int) -> float:
        """Return the expected time of a run of ``rows`` rows, in nanoseconds."""
        return self.base_ns + rows * self.row_ns

    def most_rows(self, budget_ns: float) -> int:
        """Return the most rows of a run that stays within a budget, at least 1."""
        if self.row_ns <= 0:
            return MOST_ROWS
        return max(1, min(MOST_ROWS, int((budget_ns - self.base_ns) / self.row_ns)))

    def worthwhile_rows(self) -> int:
        """Return the number of rows above which a run gains little, at least 1."""
        if self.base_ns >= WORTHWHILE * self.row_ns * MOST_ROWS:
            return MOST_ROWS
        return max(1, ceil(self.base_ns / (WORTHWHILE * self.row_ns)))


@dataclass(frozen=True, slots=True)
class RowProof:
    """Whether a graph proves that the answer to a row depends on that row alone; ``reason`` says why it does not ("" =
    it does), ``node`` and ``operator`` where the proof ended ("" = at no operator). ``rows_vary`` says that an output
    may have more or fewer rows than the inputs. Callers may read the reason, but not the names of nodes."""

    independent: bool
    reason: str = ""
    node: str = ""
    operator: str = ""
    rows_vary: bool = False


NOT_EXAMINED: Final = RowProof(False, "its graph has not been examined")
"""The proof of a graph that was not examined."""


@dataclass(frozen=True, slots=True)
class BatchSharing:
    """Whether calls of several callers share runs of a version; ``reason`` says why, or why not."""

    shared: bool
    reason: str

    @property
    def text(self) -> str:
        """Return both in one sentence, for people."""
        return f"{'requests share runs' if self.shared else 'every request runs alone'}: {self.reason}"


def fit_cost(rows: int, one_ns: int, all_ns: int) -> RunCost:
    """Return the cost of a model whose run took ``one_ns`` for one row and ``all_ns`` for ``rows`` (more than one)."""
    row_ns = max(0.0, (all_ns - one_ns) / (rows - 1))
    return RunCost(max(0.0, one_ns - row_ns), row_ns)


def plan_runs(keys: Sequence[Hashable], rows: Sequence[int], most_rows: int) -> list[list[int]]:
    """The calls of each run, by their places: only calls of one key go together, in their order, ``most_rows`` at most;
    a call of more rows, or of none, goes alone."""
    runs: list[list[int]] = []
    filling: dict[Hashable, tuple[list[int], int]] = {}
    for index, (key, number) in enumerate(zip(keys, rows, strict=True)):
        begun = filling.get(key)
        if begun is not None and number and begun[1] + number <= most_rows:
            begun[0].append(index)
            filling[key] = begun[0], begun[1] + number
            continue
        run = [index]
        runs.append(run)
        if number:
            filling[key] = run, number
    return runs


@dataclass(frozen=True, slots=True)
class BatchRules:
    """What runs on threads may be made of: ``most_rows`` of several calls (1: every call runs alone), ``preferred``
    numbers of rows in ascending order, and for how many nanoseconds the first may be made to wait for others."""

    most_rows: int = 1
    preferred: tuple[int, ...] = ()
    delay_ns: int = 0


def batch_rules(
    cost: RunCost | None, stated: int, preferred: tuple[int, ...] = (), delay_ns: int = 0, promised_ns: int = 0
) -> BatchRules:
    """What a model's runs may be made of: nothing joins without a ``cost`` (it is not known whether rows are
    independent).

    ``stated`` is the configuration's ``max_batch_size`` (0 = none). Where it asks for sizes or a delay, that bounds a
    run; else what is worthwhile does. In any case a run stays within its share of ``promised_ns`` (0 = no promise), as
    far as the cost foresees.
    """
    if cost is None:
        return BatchRules()
    most = stated or MOST_ROWS
    if not preferred and not delay_ns:
        most = min(most, cost.worthwhile_rows())
    if promised_ns and cost.run_ns(most) > OBJECTIVE_SHARE * promised_ns:
        most = min(most, cost.most_rows(OBJECTIVE_SHARE * promised_ns))
    return BatchRules(most, tuple(size for size in preferred if size <= most), delay_ns)


def next_run(
    keys: Sequence[Hashable], rows: Sequence[int], waits_since_ns: int, of: BatchRules, now_ns: int
) -> tuple[list[int], int]:
    """What a free thread does about a queue that is not empty: the places of the calls it runs; or none, and until when
    it waits for more. ``waits_since_ns`` is since when the first waits.

    The first is always among them, others only if they have its key and the run has space for their rows. Nothing waits
    unless a delay is stated. Then, as Triton documents it, calls run as soon as they make up a preferred size, at least
    the largest one, or all that can join them; and when the first has waited that long.
    """
    if not rows[0] or of.most_rows == 1:
        return [0], 0
    gathered = _gather(keys, rows, of)
    until_ns = waits_since_ns + of.delay_ns
    exceeded = of.delay_ns > 0 and now_ns >= until_ns
    if gathered.preferred and not exceeded:
        return gathered.places[: gathered.preferred], 0
    if gathered.closed or exceeded or not of.delay_ns:
        return gathered.places, 0
    return [], until_ns


@dataclass(slots=True)
class _GatheredCalls:
    """The calls at ``places`` that may share a run: the first ``preferred`` of them make up a size to run at (0: none
    do); ``closed`` says that no call which comes later could make their run any larger."""

    places: list[int]
    preferred: int
    closed: bool


def _gather(keys: Sequence[Hashable], rows: Sequence[int], of: BatchRules) -> _GatheredCalls:
    largest = of.preferred[-1] if of.preferred else of.most_rows
    total = rows[0]
    gathered = _GatheredCalls([0], 1 if total in of.preferred else 0, total >= largest)
    for index in range(1, len(keys)):
        if total >= of.most_rows:
            break
        longer = total + rows[index]
        if not rows[index] or keys[index] != keys[0] or longer > of.most_rows:
            gathered.closed = True  # one waits behind them that cannot join
            continue
        if longer > largest and not gathered.preferred:
            gathered.preferred = len(gathered.places)
        gathered.places.append(index)
        total = longer
        gathered.closed = gathered.closed or total >= largest
        if total in of.preferred:
            gathered.preferred = len(gathered.places)
    return gathered
