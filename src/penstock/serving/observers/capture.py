"""Captures a share of the requests of a version with their answers."""

import time
from collections.abc import Sequence
from random import random

from penstock.core.labels import ROUTE_NAMES
from penstock.monitor.capture import AnsweredRequest, CaptureCounters, CaptureWriter
from penstock.serving.infer_call import InferCall


class Capture:
    """The capture of one version; lives on the event loop. Keeps each offered call with the probability ``share``."""

    def __init__(self, writer: CaptureWriter, share: float, tally: CaptureCounters) -> None:
        self._writer = writer
        self._share = share
        self._tally = tally

    def take(self, calls: Sequence[InferCall]) -> None:
        """Write a random share of these calls."""
        chosen = [call for call in calls if random() < self._share]
        if chosen:
            ago, now = time.monotonic_ns(), time.time()
            requests = [
                AnsweredRequest(
                    item.id, ROUTE_NAMES[item.route], item.tensors, item.outputs, now - (ago - item.began_ns) / 1e9
                )
                for item in chosen
            ]
            self._writer.write(requests, self._tally)

    def close(self) -> None:
        """Close the writer; call ``take`` no more."""
        self._writer.close()
