"""Gathers what a replay shows: how requests ended, how long they took, and which answers differ from the capture."""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.pairs import OutputDifference, compare
from penstock.core.tensors import Tensor
from penstock.core.texts import shorten
from penstock.loadtest.histogram import HdrHistogram, join
from penstock.loadtest.measurement import name_outcome
from penstock.loadtest.samples import INTERRUPTED
from penstock.monitor.capture import CapturedRequest
from penstock.replay.judgement import PairCounts
from penstock.replay.requests import Answer, Codec, tensors_of
from penstock.replay.time_series import TimeSeries
from penstock.replay.window import UNREADABLE, ReplayEnd

SAMPLES: Final = 16
SAMPLE_ELEMENTS: Final = 4096
"""Requests with the largest differences that a report shows, and the most values of one."""

MOST_VERSIONS: Final = 32
_BUFFERED: Final = 4096

SERIES: Final = ("requests", "failed", "differ", "noisy")

_ERRORS_BY_HTTP: Final = frozenset({400, 413, 422, 500, 501})
_ERRORS_BY_GRPC: Final = frozenset({2, 3, 9, 11, 12, 13, 15})
"""Statuses by which a version refuses a request that the captured one answered, or fails: a difference. Others say
nothing of the version: refusals for lack of capacity or of a permission, deadlines, and versions that are gone."""


@dataclass(frozen=True, slots=True)
class DifferingRequest:
    """A request whose answer differs, as JSON values."""

    badness: float
    document: dict[str, Any]


@dataclass(slots=True)
class OutputCounts:
    """What was compared of one output: requests that differ and that are noisy, rows with another class or label, and
    the greatest difference of a number."""

    pairs: PairCounts = field(default_factory=PairCounts)
    flips: int = 0
    max_abs: float = 0.0


class Durations:
    """Durations of answers, gathered in pieces of bounded size."""

    def __init__(self) -> None:
        self._whole = join([])
        self._buffer: list[float] = []

    def add(self, seconds: float) -> None:
        """Add a duration."""
        self._buffer.append(seconds)
        if len(self._buffer) >= _BUFFERED:
            self._whole, self._buffer = self.histogram(), []

    def histogram(self) -> HdrHistogram:
        """Return all durations."""
        return self._whole + HdrHistogram.of(np.array(self._buffer) * 1e6)


@dataclass(slots=True)
class _Waiting:
    """The end of the first of two equal requests, until the other ends too."""

    outcome: int
    answer: Answer | None


class Findings:
    """What a replay shows so far; ``note`` is called once for each request that ended. Not safe for threads.

    - ``sent``: requests that were sent, both of two; ``ended``: how those and the unsent ones ended, by name.
    - ``skipped``: captured requests that were not sent, and why.
    - ``versions``: answers by the version they name.
    - ``pairs``: compared requests; ``uncompared``: those without two answers, or whose captured answer is masked.
    - ``errors``: of the compared ones that differ, those that the version refused or failed.
    """

    def __init__(self, codec: Codec, compares: bool, transport_is_grpc: bool) -> None:
        self._codec = codec
        self._compares = compares
        self._by_grpc = transport_is_grpc
        self._waiting: dict[int, _Waiting] = {}
        self._worst: list[tuple[float, int, DifferingRequest]] = []
        self._numbers = count()
        self.ended: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.answered = self.unanswered = self.errors = self.uncompared = 0
        self.pairs = PairCounts()
        self.outputs: dict[str, OutputCounts] = {}
        self.series = TimeSeries(SERIES)
        self.durations = Durations()
        self.seconds = 0.0

    @property
    def requests(self) -> int:
        """Requests that were sent or should have been; a request that is asked twice counts twice."""
        return self.answered + self.unanswered

    @property
    def unanswered_share(self) -> float:
        """The part of the requests without an answer of the version."""
        return self.unanswered / self.requests if self.requests else 0.0

    def note(self, end: ReplayEnd) -> None:
        """Note the end of a request."""
        if end.outcome == UNREADABLE:
            self.skipped["cannot be encoded"] += not end.request.is_repeat
            return
        if end.outcome == INTERRUPTED:
            self.skipped["interrupted"] += not end.request.is_repeat
            self._waiting.pop(end.request.number, None)
            return
        answer = self._read(end)
        if self._compares:
            self._pair(end, answer)

    def worst(self) -> list[DifferingRequest]:
        """Return the requests with the largest differences."""
        return [sample for _, _, sample in sorted(self._worst, key=lambda item: item[:2], reverse=True)]

    def _read(self, end: ReplayEnd) -> Answer | None:
        """Count how a request ended; return its answer, None without one."""
        self.seconds = max(self.seconds, end.ended)
        self.series.add(end.due, "requests")
        name = name_outcome(end.outcome, self._by_grpc)
        answer = None
        if self._is_good(end.outcome):
            try:
                answer = self._codec.decode(end.answer)
                name = "answered"
            except InvalidInput as fault:
                name = str(fault)
        self.ended[name] += 1
        if answer is not None:
            self.durations.add(end.ended - end.due)
            version = answer.version if len(self.versions) < MOST_VERSIONS or answer.version in self.versions else ""
            self.versions[shorten(version) or "(not named)"] += 1
        else:
            self.series.add(end.due, "failed")
        is_of_version = self._is_of_version(_Waiting(end.outcome, answer))
        self.answered += is_of_version
        self.unanswered += not is_of_version
        return answer

    def _is_good(self, outcome: int) -> bool:
        return outcome == (0 if self._by_grpc else 200)

    def _is_of_version(self, ended: _Waiting) -> bool:
        """Whether a request has an answer of the version, be it an error."""
        return ended.answer is not None or ended.outcome in (_ERRORS_BY_GRPC if self._by_grpc else _ERRORS_BY_HTTP)

    def _pair(self, end: ReplayEnd, answer: Answer | None) -> None:
        """Compare when both of two equal requests have ended."""
        other = self._waiting.pop(end.request.number, None)
        this = _Waiting(end.outcome, answer)
        if other is None:
            self._waiting[end.request.number] = this
            return
        first, second = (other, this) if end.request.is_repeat else (this, other)
        is_masked = "outputs" in end.request.record.head.get("masked", ())
        captured = [] if is_masked else tensors_of(end.request.record, "outputs")
        if captured and self._is_of_version(first) and self._is_of_version(second):
            self._compare(end, captured, first, second)
        else:
            self.uncompared += 1

    def _compare(self, end: ReplayEnd, captured: list[Tensor], first: _Waiting, second: _Waiting) -> None:
        record = end.request.record
        if first.answer is None or second.answer is None:
            differs, is_noisy = first.answer is None, (first.answer is None) != (second.answer is None)
            self.errors += differs
            if differs:
                self._keep(record, captured, None, OutputDifference(True), name_outcome(first.outcome, self._by_grpc))
        else:
            difference, noise = self._compare_outputs(captured, first.answer.outputs, second.answer.outputs)
            differs, is_noisy = difference.disagrees, noise.disagrees
            if differs:
                self._keep(record, captured, first.answer.outputs, difference, "")
        self.pairs.add(differs, is_noisy)
        for name, applies in (("differ", differs), ("noisy", is_noisy)):
            if applies:
                self.series.add(end.due, name)

    def _compare_outputs(
        self, captured: Sequence[Tensor], first: Sequence[Tensor], second: Sequence[Tensor]
    ) -> tuple[OutputDifference, OutputDifference]:
        """Return the difference and the noise of the captured outputs together, and count those of each; an output that
        an answer does not have disagrees."""
        one, other = by_name(first), by_name(second)
        whole, whole_noise = OutputDifference(), OutputDifference()
        for tensor in captured:
            counts = self.outputs.setdefault(tensor.name, OutputCounts())
            difference = compare((tensor,), one.get(tensor.name, ()))
            noise = compare(one.get(tensor.name, ()), other.get(tensor.name, ()))
            counts.pairs.add(difference.disagrees, noise.disagrees)
            counts.flips += difference.flips
            counts.max_abs = max(counts.max_abs, difference.max_abs)
            whole, whole_noise = whole.plus(difference), whole_noise.plus(noise)
        return whole, whole_noise

    def _keep(
        self,
        record: CapturedRequest,
        captured: Sequence[Tensor],
        answer: Sequence[Tensor] | None,
        difference: OutputDifference,
        error: str,
    ) -> None:
        """Keep a request if it is one of the worst and small enough; an error is worse than any difference."""
        badness = float("inf") if error else difference.flips + difference.max_abs
        inputs, outputs = tensors_of(record, "inputs"), list(answer or ())
        if len(self._worst) >= SAMPLES and badness <= self._worst[0][0]:
            return
        if sum(tensor.data.size for tensor in (*inputs, *captured, *outputs)) > SAMPLE_ELEMENTS:
            return
        document = {
            "id": shorten(record.id),
            "inputs": [tensor.to_json() for tensor in inputs],
            "captured": [tensor.to_json() for tensor in captured],
            "answer": [tensor.to_json() for tensor in outputs],
            "error": error,
            "flips": difference.flips,
            "max_abs_diff": difference.max_abs,
        }
        change: Callable[..., Any] = heapq.heapreplace if len(self._worst) >= SAMPLES else heapq.heappush
        change(self._worst, (badness, next(self._numbers), DifferingRequest(badness, document)))


def by_name(tensors: Sequence[Tensor]) -> Mapping[str, Sequence[Tensor]]:
    """Return each tensor alone by its name."""
    return {tensor.name: (tensor,) for tensor in tensors}
