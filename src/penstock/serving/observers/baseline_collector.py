"""Collects rows of a version without a reference, to learn one: from many requests and clients, over a period."""

import random
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from penstock.core.desired import LearnSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import Columns, RowValues
from penstock.monitor.confidence import SCORE_BINS, ConfidenceHistogram, confidence_of, score_bins
from penstock.serving.infer_call import InferCall

Learned = Callable[[list[RowValues], list[RowValues], ConfidenceHistogram | None, int], None]
"""Takes the rows of requests and of answers that were gathered, how sure the answers were, and out of how many requests
the rows are."""

MAX_GATHERED_BYTES: Final = 4 << 20
"""Maximum bytes of collected rows, however few they are."""

MOST_CLIENTS: Final = 4096
"""Maximum number of distinguished clients; all others count as one."""

SHORTEST_WAIT_S: Final = 0.01
"""Seconds between two reads of the clock."""

NO_PROBABILITIES: Final = -1
MISSING: Final = -1
GUESSES: Final = 32


class BaselineRows:
    """Rows of one request: its client, inputs and outputs, and the confidence of the answers: the bin of each
    probability, below 0 without one, and the number of classes, ``NO_PROBABILITIES`` if none has one.
    """

    __slots__ = ("answered", "bins", "classes", "client", "given")

    def __init__(self, client: int, inputs: RowValues, answered: RowValues, bins: Any, classes: int) -> None:
        self.client = client
        self.given = inputs
        self.answered = answered
        self.bins = bins
        self.classes = classes


class SampledRequest:
    """A request to sample: its rows are those from ``start`` to ``stop`` of the chosen ones."""

    __slots__ = ("client", "is_drawn", "start", "stop")

    def __init__(self, client: int, is_drawn: bool, start: int, stop: int) -> None:
        self.client = client
        self.is_drawn = is_drawn
        self.start = start
        self.stop = stop


class BaselineCollector:
    """Collects rows of a version without a reference, and publishes them when there are enough.

    One request, one client or one moment must not become what is usual. A request gives ``rows / requests`` rows at
    most, evenly out of all it has, and a client the ``share`` of all rows at most. Rows are published ``seconds``
    after the first at the earliest; until then later requests take the place of earlier ones by chance, so that all
    have about the same chance to be among them (reservoir sampling, Vitter 1985). ``later`` calls back after seconds,
    ``clock`` gives seconds.
    """

    def __init__(
        self,
        columns: tuple[Columns, Columns],
        wanted: LearnSpec,
        learned: Learned,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Any],
    ) -> None:
        self._inputs, self._outputs = columns
        width = 8 * (len(self._inputs.numbers) + len(self._outputs.numbers)) + 32 * len(self._inputs.labels)
        self._enough = max(1, min(wanted.rows, MAX_GATHERED_BYTES // max(1, width)))
        self._requests = min(wanted.requests, self._enough)
        self._of_request = max(1, self._enough // max(1, self._requests))
        self._of_client = max(1, round(wanted.share * self._enough))
        self._seconds = wanted.seconds
        self._learned = learned
        self._clock = clock
        self._later = later
        self._samples: list[BaselineRows] = []
        self._clients: Counter[int] = Counter()
        self._rows = 0
        self._seen = 0
        self._began = -1.0
        self._done = False

    def gather(self, calls: Sequence[InferCall], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Sample rows of these calls, whose tensors are stacked in ``inputs`` and ``outputs``."""
        if not self._done:
            self._take(calls, inputs, outputs)
        self.publish_if_enough()

    def publish_if_enough(self) -> None:
        """Publish the collected rows if there are enough."""
        if self._done or self._rows < self._enough or len(self._samples) < self._requests:
            return
        if self._seconds_left() <= 0:
            self.publish_baseline()

    def publish_baseline(self) -> None:
        """Publish the collected rows, however few, unless that was done before."""
        if self._done:
            return
        self._done = True
        samples, self._samples = self._samples, []
        inputs, answered = [sample.given for sample in samples], [sample.answered for sample in samples]
        self._learned(inputs, answered, _join_confidence(samples), self._seen)

    def wake(self) -> None:
        """Check when the period is over; a timer may be a little early."""
        self.publish_if_enough()
        if self._seconds_left() > 0:
            self._schedule_publication()

    def _seconds_left(self) -> float:
        """Return the seconds until rows may be published."""
        return self._seconds - (self._clock() - self._began)

    def _schedule_publication(self) -> None:
        wait_s = max(self._seconds_left(), SHORTEST_WAIT_S)
        self._later(wait_s, partial(_wake, weakref.ref(self)))  # it may be given up before

    def _take(self, calls: Sequence[InferCall], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        sizes = [call.rows for call in calls] if self._inputs.batching else [1]
        if self._inputs.batching and not _all_have(sum(sizes), (*inputs, *outputs)):
            if len(calls) > 1:  # the outputs of one of them do not follow its rows
                for call in calls:
                    self._take([call], call.tensors, call.outputs)
            return
        # Drawn before anything is computed of the rows: most requests come after there are enough, and stay outside.
        candidates, places = self._candidates(calls, sizes)
        if not candidates:
            return
        if len(places) < sum(sizes):
            inputs, outputs = _rows_at(inputs, places), _rows_at(outputs, places)
        input_values, answered = self._inputs(inputs), self._outputs(outputs)
        if input_values is None or answered is None or len(input_values) != len(places) or len(answered) != len(places):
            return
        if self._began < 0:
            self._began = self._clock()
            self._schedule_publication()
        bins, classes = self._confidence_bins(outputs)
        for candidate in candidates:
            self._add(candidate, input_values, answered, bins, classes)

    def _candidates(self, calls: Sequence[InferCall], sizes: Sequence[int]) -> tuple[list[SampledRequest], list[int]]:
        """Return the calls to sample, and the positions of their candidate rows."""
        candidates: list[SampledRequest] = []
        places: list[int] = []
        first = 0
        for call, size in zip(calls, sizes, strict=True):
            client = call.client
            if client not in self._clients and len(self._clients) >= MOST_CLIENTS:
                client = 0
            self._seen += 1
            free = self._free_rows(client)
            is_drawn = free < min(size, self._of_request) and self._is_drawn()
            if size and (free > 0 or is_drawn):
                start = len(places)
                places += [first + index for index in _spread(size, self._of_request)]
                candidates.append(SampledRequest(client, is_drawn, start, len(places)))
            first += size
        return candidates, places

    def _free_rows(self, client: int) -> int:
        """Return the number of rows that a client may still contribute."""
        return min(self._of_client - self._clients[client], self._enough - self._rows)

    def _is_drawn(self) -> bool:
        """Whether a request replaces an earlier one."""
        return bool(self._samples) and random.random() * self._seen < len(self._samples)

    def _remove_one(self, client: int, rows: int) -> None:
        """Drop an earlier request, of the same client if that client's share has no space for the rows."""
        index = random.randrange(len(self._samples))
        if self._clients[client] + rows > self._of_client and self._samples[index].client != client:
            index = self._any_of(client)
            if index == MISSING:
                return
        self._samples[index], self._samples[-1] = self._samples[-1], self._samples[index]
        left = self._samples.pop()
        self._rows -= len(left.given)
        self._clients[left.client] -= len(left.given)

    def _any_of(self, client: int) -> int:
        """Return the index of any kept request of a client, each as likely as the others; ``MISSING`` without one.

        A client whose share is full has many of all requests, so a few guesses find one; a list of them takes as long
        as the runs of several requests.
        """
        for _ in range(GUESSES):
            index = random.randrange(len(self._samples))
            if self._samples[index].client == client:
                return index
        own = [index for index, sample in enumerate(self._samples) if sample.client == client]
        return random.choice(own) if own else MISSING

    def _add(
        self, sampled_request: SampledRequest, inputs: RowValues, answered: RowValues, bins: Any, classes: int
    ) -> None:
        """Keep a request, as far as there is space."""
        if sampled_request.is_drawn:
            self._remove_one(sampled_request.client, sampled_request.stop - sampled_request.start)
        rows = min(sampled_request.stop - sampled_request.start, self._free_rows(sampled_request.client))
        if rows <= 0:
            return
        part = slice(sampled_request.start, sampled_request.start + rows)
        own = None if bins is None else bins[part]
        self._samples.append(
            BaselineRows(sampled_request.client, _copy_rows(inputs, part), _copy_rows(answered, part), own, classes)
        )
        self._rows += rows
        self._clients[sampled_request.client] += rows

    def _confidence_bins(self, outputs: Sequence[Tensor]) -> tuple[Any, int]:
        """Return the bin of each row's probability, below 0 where the scores are not probabilities, and the number of
        classes; None if no row has probabilities.
        """
        scores = self._outputs.scores(outputs)
        if scores is None or scores.shape[1] < 2:
            return None, NO_PROBABILITIES
        sure = confidence_of(scores)
        if sure is not None:
            return score_bins(sure), int(scores.shape[1])
        alone = [confidence_of(row) for row in scores[:, None, :]]
        bins = [-1 if item is None else int(score_bins(item)[0]) for item in alone]
        return np.array(bins), int(scores.shape[1])


def _wake(collector: "weakref.ref[BaselineCollector]") -> None:
    living = collector()
    if living is not None:
        living.wake()


def _all_have(rows: int, tensors: Sequence[Tensor]) -> bool:
    return all((len(tensor.data) if tensor.data.ndim else 1) == rows for tensor in tensors)


def _spread(rows: int, most: int) -> Sequence[int]:
    """Return at most ``most`` places of rows, spread evenly over all of them."""
    if rows <= most:
        return range(rows)
    places: list[int] = np.linspace(0, rows - 1, most).astype(np.intp).tolist()
    return places


def _rows_at(tensors: Sequence[Tensor], places: Sequence[int]) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.datatype, tensor.data[places]) for tensor in tensors]


def _copy_rows(rows: RowValues, part: slice) -> RowValues:
    """Return some rows as a copy: kept rows must not reference the others."""
    return RowValues(rows.numbers[part].copy(), tuple([np.asarray(column[part], object) for column in rows.labels]))


def _join_confidence(samples: Sequence[BaselineRows]) -> ConfidenceHistogram | None:
    """Return the confidence of all answers together, None if some are not probabilities."""
    if not samples or any(sample.classes == NO_PROBABILITIES for sample in samples):
        return None
    bins = np.concatenate([sample.bins for sample in samples])
    if (bins < 0).any():
        return None
    counts = np.bincount(bins, minlength=SCORE_BINS)
    return ConfidenceHistogram(samples[-1].classes, tuple(counts.tolist()))
