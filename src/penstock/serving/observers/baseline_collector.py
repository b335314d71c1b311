"""Gathers rows of a version that has no reference, to learn one from: of many requests and clients, over a time."""

import random
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from penstock.core.desired import LearnSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import Columns, Rows
from penstock.monitor.reference import SCORE_BINS, ConfidenceHistogram, confidence_of, score_bins
from penstock.serving.infer_call import InferCall

Learned = Callable[[list[Rows], list[Rows], ConfidenceHistogram | None], None]
"""Takes the rows of requests and of answers that were gathered, and how sure the answers were."""

MAX_GATHERED_BYTES: Final = 4 << 20
"""What gathered rows may take, however few they are."""

MOST_CLIENTS: Final = 4096
"""Clients that are told apart; others count as one."""

SHORTEST_WAIT_S: Final = 0.01
"""Seconds between two looks at the clock."""

NO_CHANCES: Final = -1


class Sample:
    """Rows of one request: who sent it, what it brought and was answered, and how sure the answers were (a count for
    each of ``SCORE_BINS`` and the number of classes, ``NO_CHANCES`` where they are no probabilities)."""

    __slots__ = ("answered", "classes", "client", "given", "sure")

    def __init__(self, client: int, given: Rows, answered: Rows, sure: Any, classes: int) -> None:
        self.client = client
        self.given = given
        self.answered = answered
        self.sure = sure
        self.classes = classes


class BaselineCollector:
    """Gathers rows of a version that has no reference, and hands them over once there are enough.

    One request, one client or one moment must not become what is usual. A request gives ``rows / requests`` rows at
    most, evenly out of all it has, and a client the ``share`` of all rows at most. Rows are handed over ``seconds``
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
        self._samples: list[Sample] = []
        self._clients: Counter[int] = Counter()
        self._rows = 0
        self._seen = 0
        self._began = -1.0
        self._done = False

    def gather(self, calls: Sequence[InferCall]) -> None:
        """Take rows of these calls."""
        for call in () if self._done else calls:
            self._take(call.client, call.tensors, call.outputs)
        self.look()

    def look(self) -> None:
        """Hand over what was gathered, if it is enough."""
        if self._done or self._rows < self._enough or len(self._samples) < self._requests:
            return
        if self._left() > 0:
            return
        self._done = True
        samples, self._samples = self._samples, []
        self._learned([one.given for one in samples], [one.answered for one in samples], _confidence(samples))

    def wake(self) -> None:
        """Look once the time is over; a timer may come a little too soon."""
        self.look()
        if self._left() > 0:
            self._look_later()

    def _left(self) -> float:
        """Seconds until rows may be handed over."""
        return self._seconds - (self._clock() - self._began)

    def _look_later(self) -> None:
        wait_s = max(self._left(), SHORTEST_WAIT_S)
        self._later(wait_s, partial(_wake, weakref.ref(self)))  # it may be given up before

    def _take(self, client: int, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        count = self._count(inputs, outputs)
        if not count:
            return
        if client not in self._clients and len(self._clients) >= MOST_CLIENTS:
            client = 0
        self._seen += 1
        # Drawn before anything is computed of the rows: most requests come after there are enough, and stay outside.
        room = self._room(client)
        replaces = room < min(count, self._of_request) and self._is_drawn()
        if room <= 0 and not replaces:
            return
        if count > self._of_request:
            inputs, outputs = self._few_rows(inputs, count), self._few_rows(outputs, count)
        given, answered = self._inputs(inputs), self._outputs(outputs)
        if given is None or answered is None or not len(given) or len(given) != len(answered):
            return
        if self._began < 0:
            self._began = self._clock()
            self._look_later()
        places = _spread(len(given), self._of_request)
        if replaces:
            self._remove_one(client, len(places))
        places = places[: max(0, self._room(client))]
        if len(places):
            sure, classes = self._sure(outputs, places)
            self._add(Sample(client, _taken(given, places), _taken(answered, places), sure, classes), len(places))

    def _count(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int:
        """The rows of a request, 0 where its tensors do not agree on that."""
        if not self._inputs.batching:
            return 1
        rows = {len(one.data) if one.data.ndim else 1 for one in (*inputs, *outputs)}
        return rows.pop() if len(rows) == 1 else 0

    def _few_rows(self, tensors: Sequence[Tensor], rows: int) -> Sequence[Tensor]:
        """The rows that one request may give, before anything is computed of them: it may have millions."""
        places = _spread(rows, self._of_request)
        return [Tensor(one.name, one.datatype, one.data[places]) for one in tensors]

    def _room(self, client: int) -> int:
        """Rows that a client may still give."""
        return min(self._of_client - self._clients[client], self._enough - self._rows)

    def _is_drawn(self) -> bool:
        """Whether a request takes the place of an earlier one."""
        return bool(self._samples) and random.random() * self._seen < len(self._samples)

    def _remove_one(self, client: int, rows: int) -> None:
        """Give up an earlier request, of the same client where that has no room of its own for so many rows."""
        index = random.randrange(len(self._samples))
        if self._clients[client] + rows > self._of_client and self._samples[index].client != client:
            theirs = [place for place, one in enumerate(self._samples) if one.client == client]
            if not theirs:
                return
            index = random.choice(theirs)
        self._samples[index], self._samples[-1] = self._samples[-1], self._samples[index]
        left = self._samples.pop()
        self._rows -= len(left.given)
        self._clients[left.client] -= len(left.given)

    def _add(self, sample: Sample, rows: int) -> None:
        self._samples.append(sample)
        self._rows += rows
        self._clients[sample.client] += rows

    def _sure(self, outputs: Sequence[Tensor], places: Any) -> tuple[Any, int]:
        scores = self._outputs.scores(outputs)
        sure = None if scores is None or scores.shape[1] < 2 else confidence_of(scores[places])
        if scores is None or sure is None:
            return None, NO_CHANCES
        return np.bincount(score_bins(sure), minlength=SCORE_BINS), int(scores.shape[1])


def _wake(collector: "weakref.ref[BaselineCollector]") -> None:
    found = collector()
    if found is not None:
        found.wake()


def _spread(rows: int, most: int) -> Any:
    """So many places of rows at most, evenly over all of them."""
    return np.arange(rows) if rows <= most else np.linspace(0, rows - 1, most).astype(np.intp)


def _taken(rows: Rows, places: Any) -> Rows:
    labels = tuple([np.asarray(column, object)[places] for column in rows.labels])
    return Rows(rows.numbers[places], labels)


def _confidence(samples: Sequence[Sample]) -> ConfidenceHistogram | None:
    """How sure all answers were together, None where some are no probabilities."""
    if not samples or any(one.classes == NO_CHANCES for one in samples):
        return None
    return ConfidenceHistogram(samples[-1].classes, tuple(sum([one.sure for one in samples]).tolist()))
