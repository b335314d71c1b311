"""Repeats some batch runs, request by request and off the request path, and compares the answers.

It is the last check on the independence of rows: behind the proof, or the owner's word, and the trial at loading.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from time import monotonic_ns
from typing import Final

import numpy as np

from penstock.core.errors import Fault
from penstock.core.signature import Feeds
from penstock.core.tensors import Array
from penstock.engine.batch_trial import describe_difference
from penstock.engine.model import Model

log = logging.getLogger("penstock.serving")

EVERY: Final = 1000
"""One in this number of batch runs is repeated, at random."""

PAUSE_NS: Final = 1_000_000_000
"""Minimum time between two repeated runs of a version: each takes as many runs as it had requests."""

LARGEST_BYTES: Final = 16 << 20
"""Maximum bytes of a run to repeat, inputs and outputs together."""

Submit = Callable[[Callable[[], None]], object]
"""Runs work on a thread of low priority."""


class BatchRunCheck:
    """The check of one version. ``is_due`` and ``take`` may be called by any thread; at most one run is kept at a time.

    ``on_mismatch`` is called with the difference of the answers, on the thread of low priority.
    """

    def __init__(
        self,
        submit: Submit,
        on_mismatch: Callable[[str], object],
        random: Random | None = None,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._submit = submit
        self._on_mismatch = on_mismatch
        self._random = random or Random()
        self._clock = clock
        self._left = self._next_gap()
        self._busy = False
        self._not_before_ns = 0

    def is_due(self) -> bool:
        """Count a batch run; return whether to repeat it."""
        self._left -= 1
        if self._left > 0:
            return False
        self._left = self._next_gap()
        return not self._busy and self._clock() >= self._not_before_ns

    def take(self, model: Model, names: list[str], feeds: Feeds, outputs: list[Array], rows: list[int]) -> None:
        """Repeat a run call by call on another thread; ``rows`` are the rows of each call."""
        arrays = [*feeds.values(), *outputs]
        if sum([array.nbytes for array in arrays]) > LARGEST_BYTES:
            return
        self._busy = True
        try:
            self._submit(partial(self._repeat, model, names, feeds, outputs, rows))
        except RuntimeError:  # the threads are gone: the worker stops
            self._busy = False

    def _next_gap(self) -> int:
        return self._random.randrange(1, 2 * EVERY)

    def _repeat(self, model: Model, names: list[str], feeds: Feeds, outputs: list[Array], rows: list[int]) -> None:
        try:
            difference = compare_alone(model, names, feeds, outputs, rows)
            if difference:
                self._on_mismatch(difference)
        except (Fault, MemoryError, ValueError):  # it was unloaded meanwhile, or memory ran out
            pass
        except Exception as error:  # a bug must not take the loading thread down
            log.exception("a shared run could not be repeated", exc_info=error)
        finally:
            self._not_before_ns = self._clock() + PAUSE_NS
            self._busy = False


def compare_alone(
    model: Model, names: Sequence[str], feeds: Feeds, outputs: Sequence[Array], rows: Sequence[int]
) -> str:
    """Return how the outputs of a batch run differ from those of its calls alone, "" if they do not.

    Numbers may differ as those of runs of different sizes do. A label or another whole value may then tip over, which
    shows in a run of the same size that has nothing but the rows of its call.

    Raises:
        Fault: the model failed on a call alone.
    """
    spans = _find_spans(rows)
    apart = [model.run(_slice_feeds(feeds, np.arange(*span)), names) for span in spans]
    difference = describe_difference(outputs, apart, rows, rough=True)
    if not difference:
        return ""
    for (start, end), alone in zip(spans, apart, strict=True):
        own = start + (np.arange(sum(rows)) - start) % (end - start)
        copies = model.run(_slice_feeds(feeds, own), names)
        for index, output in enumerate(outputs):
            if output.dtype.kind not in "fc" and len(copies[index]) == len(output):
                alone[index] = copies[index][start:end]
    return describe_difference(outputs, apart, rows, rough=True)


def _find_spans(rows: Sequence[int]) -> list[tuple[int, int]]:
    ends = np.cumsum(rows).tolist()
    return [(end - number, end) for end, number in zip(ends, rows, strict=True)]


def _slice_feeds(feeds: Feeds, places: Array) -> Feeds:
    return {name: array[places] for name, array in feeds.items()}
