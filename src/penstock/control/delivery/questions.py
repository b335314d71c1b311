"""Queries webhooks and Prometheus in the background of rollouts, so that a slow answer delays nothing else."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.control.calls.blocking import BlockingCall, BlockingPool
from penstock.control.sinks import SinkFault
from penstock.core.errors import Fault, NotReady

log = logging.getLogger("penstock.control")

EVERY_S = 2.0
"""Time between two queries of the same gate or guard."""

QUERIES, WEBHOOKS = "Prometheus", "webhooks"
"""The kinds of queries; each has its own threads."""

THREADS = {QUERIES: 16, WEBHOOKS: 64}
MOST_WAITING = 1000
"""Maximum waiting queries of a kind: 18 for each of 50 rollouts without any answer."""

FORGET_S = 300.0

QueryKey = tuple[str, ...]
Question = Callable[[], float | None]
"""Blocks, and returns a number or None; raises ``Fault`` or ``SinkFault``."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The result of a query: a number, or None and the reason."""

    value: float | None
    fault: str = ""


@dataclass(slots=True)
class _PendingQuery:
    """An open query: when it began (seconds of the clock), and its answer when there is one (None: it was read)."""

    at: float
    job: BlockingCall | None
    overdue: bool = False


class QueryPool(Protocol):
    """The thread pool of queries; see ``blocking.BlockingPool``."""

    def submit(self, work: Callable[[], Any]) -> BlockingCall:
        """Begin a call."""

    def abandon(self, job: BlockingCall) -> None:
        """Stop waiting for it."""


class GateQueries:
    """Repeats each query at intervals, and at most once at a time; ``clock`` gives monotonic seconds.

    One thread, the event loop's, may call it. Those that find no thread in the pool of their kind wait for one, within
    their time.
    """

    def __init__(self, pools: Mapping[str, QueryPool], clock: Callable[[], float] = time.monotonic) -> None:
        self._pools = pools
        self._clock = clock
        self._asked: dict[QueryKey, _PendingQuery] = {}

    def take_or_start(self, kind: str, key: QueryKey, question: Question, wait_s: float) -> QueryResult | None:
        """Return a new answer to a query, each answer once; None while there is none. Begin the query when it is due.

        A question without an answer after ``wait_s`` has none; what comes later is dropped.
        """
        now, pool = self._clock(), self._pools[kind]
        asked = self._asked.get(key)
        if asked is None:
            self._forget_old(now)
        if asked is None or (asked.job is None and now - asked.at >= EVERY_S):
            try:
                asked = self._asked[key] = _PendingQuery(now, pool.submit(question))
            except NotReady as fault:
                return QueryResult(None, str(fault))
        return _take_result(asked, pool, now, wait_s)

    def _forget_old(self, now: float) -> None:
        """Forget queries that were not needed for a while."""
        self._asked = {key: item for key, item in self._asked.items() if now - item.at < FORGET_S}


def asking_pools() -> dict[str, BlockingPool]:
    """Return the thread pool of each kind, for one gateway."""
    return {kind: BlockingPool(kind.lower(), most, kind, most_waiting=MOST_WAITING) for kind, most in THREADS.items()}


def _take_result(asked: _PendingQuery, pool: QueryPool, now: float, wait_s: float) -> QueryResult | None:
    if asked.job is None:
        return None
    if asked.job.future.done():
        future, asked.job = asked.job.future, None
        return None if asked.overdue else _result_of(future)
    if now - asked.at < wait_s or asked.overdue:
        return None
    asked.overdue = True
    pool.abandon(asked.job)
    return QueryResult(None, f"it has not answered within {wait_s:g} s")


def _result_of(future: "Future[float | None]") -> QueryResult:
    try:
        value = future.result()
    except (Fault, SinkFault) as fault:
        return QueryResult(None, str(fault))
    except Exception:
        log.exception("a query of a rollout failed")
        return QueryResult(None, "the query failed")
    return QueryResult(None if value is None or math.isnan(value) else value)
