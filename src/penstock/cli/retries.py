"""Retries the reads of verbs that follow something: a gateway that is away for a moment does not end them."""

import time
from collections.abc import Callable
from typing import TypeVar

from penstock.cli.client import CallFailed
from penstock.cli.console import ExitCode, say

OUTAGE_S = 30.0
RETRY_S = 1.0

T = TypeVar("T")


def read_through_outage(
    read: Callable[[], T],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return what a read returns. While the gateway or what it needs is unavailable, say so once and retry.

    Raises:
        CallFailed: the read failed for another reason, or for longer than ``OUTAGE_S`` seconds.
    """
    started = clock()
    complained = False
    while True:
        try:
            return read()
        except CallFailed as failure:
            if failure.code is not ExitCode.UNAVAILABLE or clock() - started >= OUTAGE_S:
                raise
            if not complained:
                say(f"{failure}; retrying for up to {OUTAGE_S:g} s")
                complained = True
        sleep(RETRY_S)
