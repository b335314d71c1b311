"""Keeps a share of the requests of a version as they were, with what was answered."""

from collections.abc import Sequence
from random import random

from penstock.core.labels import ROUTE_NAMES
from penstock.core.tensors import Tensor
from penstock.monitor.capture import CaptureWriter, Seen, Tally
from penstock.serving.infer_call import InferCall


class Capture:
    """One version's; lives on the event loop. ``share`` of the calls it is shown are kept, each by chance."""

    def __init__(self, writer: CaptureWriter, share: float, tally: Tally) -> None:
        self._writer = writer
        self._share = share
        self._tally = tally

    def take(self, calls: Sequence[InferCall]) -> None:
        """Keep some of these."""
        chosen = [call for call in calls if random() < self._share]
        if chosen:
            seen = [Seen(one.id, ROUTE_NAMES[one.route], one.tensors, given_outputs(one)) for one in chosen]
            self._writer.write(seen, self._tally)

    def close(self) -> None:
        """Keep nothing more."""
        self._writer.close()


def given_outputs(call: InferCall) -> list[Tensor]:
    """What the model answered; none where classes were asked for, which are texts for the caller alone."""
    texts = call.requested is not None and any(one.classes for one in call.requested)
    return [] if texts else call.outputs
