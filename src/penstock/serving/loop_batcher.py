"""Handles the requests of one turn of the event loop together, at the end of the turn.

They go through each stage together, which costs a fifth less than one after the other: the processor's caches keep
the stage, and no socket is read or written in between. Calls of one version share a run where its rows are independent;
nothing waits for that, and a single caller sees no difference.

A turn is bounded in bytes and time. The rest is handled in the next turn, after requests that arrive meanwhile.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any, Final, Protocol

from penstock.core.errors import Cancelled
from penstock.core.labels import Priority
from penstock.serving.admission import PREEMPTED, QUEUE_FULL
from penstock.serving.infer_call import DEFAULT, InferCall, Servable
from penstock.serving.loop_stalls import STALL_NS
from penstock.serving.memory_budget import DEFAULT_MEMORY_BYTES, MemoryBudget

log = logging.getLogger("penstock.serving")

MAX_BYTES: Final = 1 << 19
"""Maximum bytes of inputs to decode in one turn, and of outputs to encode."""

DECODE_NS: Final = 4_000_000
ENCODE_NS: Final = 4_000_000
"""Maximum time for decoding and encoding in a turn."""

RUN_NS, ALL_RUNS_NS = 2_000_000, 10_000_000
"""Maximum time in a turn for the runs of one version, and for all runs."""

DEADLINE_CHECK_CALLS: Final = 16
"""Calls in the system above which a call may miss its deadline in the queue."""

PUBLISHED_S: Final = 0.025
"""Time for which the published number of calls stays as it was at the beginning of their runs."""

REJECT_S: Final = 0.001
"""Rejections within this time are answered together: single answers cost the runs beside them twice as much."""


class RequestSource(Protocol):
    """The source of requests, usually a connection; ``pending`` identifies one of them."""

    def decode(self, pending: Any) -> InferCall | None:
        """Return the call of a complete request; None if it was refused or is decoded elsewhere. Never raises."""

    def enqueue(self, pending: Any, call: InferCall) -> None:
        """Run a call on a thread, and pass it to ``LoopBatcher.finish`` when it has its outputs or its fault."""

    def encode(self, pending: Any, call: InferCall) -> Any:
        """Return the answer to a call that has its outputs or its fault; if encoding fails, the answer is the error.
        None if it is encoded elsewhere; see ``LoopBatcher.deliver``. Never raises.
        """

    def write(self, pending: Any, call: InferCall, answer: Any) -> None:
        """Send an answer, now or when those before it are sent; it is already counted."""

    def abort(self) -> None:
        """Close immediately, because writing an answer failed unexpectedly."""


LoopBatchEntry = tuple[RequestSource, Any, InferCall]
Stalls = Callable[[int], None]
"""Called with the nanoseconds of a turn that held the loop for a millisecond or more."""


def _ignore_duration(_: int) -> None:
    """Drop the duration."""


class LoopBatcher:
    """The batcher of one worker; lives on its event loop. ``record`` counts calls that are about to be answered."""

    def __init__(
        self,
        record: Callable[[Sequence[InferCall]], None],
        memory: MemoryBudget | None = None,
        stalls: Stalls = _ignore_duration,
    ) -> None:
        self._record = record
        self._memory = memory or MemoryBudget(DEFAULT_MEMORY_BYTES)
        self._stalls = stalls
        self._received: deque[tuple[RequestSource, Any]] = deque()
        self._finished: deque[LoopBatchEntry] = deque()
        self._waiting: dict[Servable, list[LoopBatchEntry]] = {}
        self._overdue: set[Servable] = set()  # versions that the last turn had no time for
        self._rejections: list[Callable[[], None]] = []
        self._scheduled = False
        self._published: set[Servable] = set()  # versions whose number of calls was published a moment ago
        self._decode_ns = 0  # what decoding took for each call of the turn
        self._loop: asyncio.AbstractEventLoop | None = None

    def enqueue(self, source: RequestSource, pending: Any) -> None:
        """Handle a complete request at the end of this turn."""
        self._received.append((source, pending))
        if not self._scheduled:
            self._schedule()

    def submit(self, source: RequestSource, pending: Any, call: InferCall) -> None:
        """Handle a call that was decoded elsewhere."""
        self._admit(source, pending, call)
        if not self._scheduled:
            self._schedule()

    def finish(self, source: RequestSource, pending: Any, call: InferCall) -> None:
        """Answer a call that has its outputs or its fault, with the others of this turn."""
        self._finished.append((source, pending, call))
        if not self._scheduled:
            self._schedule()

    def deliver(self, source: RequestSource, pending: Any, call: InferCall, answer: Any) -> None:
        """Count and write an answer that was encoded elsewhere."""
        self._record([call])
        self._write(source, pending, call, answer)

    def reject_later(self, rejection: Callable[[], None]) -> None:
        """Answer a request that was rejected for lack of capacity, together with others that come soon."""
        self._rejections.append(rejection)
        if len(self._rejections) == 1:
            self._own_loop().call_later(REJECT_S, self._reject)

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # asked once: each question is a system call
        return self._loop

    def _schedule(self) -> None:
        self._scheduled = True
        self._own_loop().call_soon(self._turn)

    def _reject(self) -> None:
        rejections, self._rejections = self._rejections, []
        for rejection in rejections:
            rejection()

    def _turn(self) -> None:
        began = monotonic_ns()
        self._scheduled = False
        if self._received:
            self._decode(began)
        if self._finished:
            self._answer()
        if self._waiting:
            self._run()
        if (self._waiting or self._received or self._finished) and not self._scheduled:
            self._schedule()
        took = monotonic_ns() - began
        if took >= STALL_NS:
            self._stalls(took)

    # Decoding.

    def _decode(self, began: int) -> None:
        """Decode received requests, as many as fit into the processor's caches together."""
        received = self._received
        size = decoded = 0
        latest = began
        while received:
            source, pending = received.popleft()
            call = source.decode(pending)
            if call is None:
                continue
            decoded += 1
            size += call.input_bytes
            self._admit(source, pending, call)
            latest = call.decoded_ns or latest
            if size > MAX_BYTES or latest - began > DECODE_NS:
                break
        if decoded:
            self._decode_ns = (latest - began) // decoded

    def _admit(self, source: RequestSource, pending: Any, call: InferCall) -> None:
        """Run a call in this turn or on a thread, or answer it immediately if it has a fault."""
        loaded = call.loaded
        if loaded.prepare_inline(call):
            if loaded.limiter.in_system and not self._may_wait(call):
                self._finished.append((source, pending, call))
                return
            self._enter(source, pending, call)
        elif call.fault is None:
            source.enqueue(pending, call)
        else:
            self._finished.append((source, pending, call))

    def _enter(self, source: RequestSource, pending: Any, call: InferCall) -> None:
        loaded, entry = call.loaded, (source, pending, call)
        loaded.limiter.enter()
        loaded.limiter.waiting[call.priority] += 1
        waiting = self._waiting.get(loaded)
        if waiting is None:
            self._waiting[loaded] = [entry]
            loaded.hold()
        else:
            waiting.append(entry)

    def _may_wait(self, call: InferCall) -> bool:
        """Whether a call may wait for its run, if necessary instead of a less urgent one; otherwise set its fault."""
        limiter, now = call.loaded.limiter, call.decoded_ns
        limiter.update(now)
        if not limiter.has_capacity(call.priority) and not self._evict(call.loaded, call.priority):
            call.fault = limiter.rejection(QUEUE_FULL, now)
            return False
        if limiter.in_system >= DEADLINE_CHECK_CALLS:
            call.fault = limiter.deadline_error(call.priority, call.deadline_ns, now)
        return call.fault is None

    def _evict(self, loaded: Servable, priority: int) -> bool:
        """Reject the newest waiting call of the least urgent class, if that is less urgent; return whether there was
        one.
        """
        limiter = loaded.limiter
        for least in reversed(Priority):
            if least > priority and limiter.waiting[least]:
                entries = self._waiting[loaded]
                index = max([index for index, entry in enumerate(entries) if entry[2].priority == least])
                entry = entries.pop(index)
                entry[2].fault = limiter.rejection(PREEMPTED, monotonic_ns())
                self._leave(entry[2])
                self._finished.append(entry)
                return True
        return False

    def _leave(self, call: InferCall) -> None:
        limiter = call.loaded.limiter
        limiter.waiting[call.priority] -= 1
        limiter.in_system -= 1

    # Running.

    def _run(self) -> None:
        """Run calls on the loop, versions with few calls first, except for those that were skipped before."""
        waiting, began = list(self._waiting.items()), 0
        if len(waiting) > 1:
            began = monotonic_ns()
            waiting.sort(key=self._precedence)
        self._overdue.clear()
        for loaded, entries in waiting:
            if self._finished or (len(waiting) > 1 and monotonic_ns() - began > ALL_RUNS_NS):
                self._overdue.add(loaded)
                continue
            self._publish(loaded)
            left = self._run_some(loaded, entries)
            if left:
                self._waiting[loaded] = left
            else:
                del self._waiting[loaded]
                loaded.release()

    def _publish(self, loaded: Servable) -> None:
        """Publish the number of a version's calls in the system, and for a while nothing less."""
        loaded.limiter.publish()
        if not self._published:
            self._own_loop().call_later(PUBLISHED_S, self._publish_present)
        self._published.add(loaded)

    def _publish_present(self) -> None:
        for loaded in self._published:
            loaded.limiter.publish()
        self._published.clear()

    def _run_some(self, loaded: Servable, entries: list[LoopBatchEntry]) -> list[LoopBatchEntry]:
        """Run calls of one version for its share of the turn, and answer them; return the remaining calls."""
        began = monotonic_ns()
        limiter = loaded.limiter
        if limiter.waiting[DEFAULT] != len(entries):
            entries.sort(key=_find_urgency)
        if any(entry[2].abandoned for entry in entries):
            entries = self._without_abandoned(entries)
        left = loaded.run_inline([entry[2] for entry in entries], began + RUN_NS) if entries else ()
        remaining: list[LoopBatchEntry] = []
        if left:
            later = set(left)
            remaining = [entry for entry in entries if entry[2] in later]
            entries = [entry for entry in entries if entry[2] not in later]
        for _, _, call in entries:
            self._leave(call)
        self._finished.extend(entries)
        self._answer()
        now = monotonic_ns()
        if entries:
            limiter.note_run(now - began + self._decode_ns * len(entries), len(entries))
        limiter.update(now)
        return remaining

    def _precedence(self, waiting: tuple[Servable, list[LoopBatchEntry]]) -> tuple[bool, int]:
        return waiting[0] not in self._overdue, len(waiting[1])

    def _without_abandoned(self, entries: list[LoopBatchEntry]) -> list[LoopBatchEntry]:
        """Return the calls that are not abandoned; the others end here."""
        for entry in entries:
            if entry[2].abandoned:
                entry[2].fault = Cancelled("the client closed the connection")
                self._leave(entry[2])
                self._finished.append(entry)
        return [entry for entry in entries if not entry[2].abandoned]

    # Answering.

    def _answer(self) -> None:
        """Encode, count and write finished calls; an answer is counted before its caller can read it."""
        finished = self._finished
        began = monotonic_ns() if len(finished) >= CLOCK_EVERY else 0  # else nobody compares with it
        entries: list[LoopBatchEntry] = []
        answers: list[Any] = []
        size = 0
        while finished and size <= MAX_BYTES:
            entry = finished.popleft()
            answer = entry[0].encode(entry[1], entry[2])
            if answer is None:
                continue
            entries.append(entry)
            answers.append(answer)
            size += entry[2].output_bytes
            if not len(entries) % CLOCK_EVERY and monotonic_ns() - began > ENCODE_NS:
                break
        self._record([call for _, _, call in entries])
        for index, (source, pending, call) in enumerate(entries):
            self._write(source, pending, call, answers[index])
        if size > MAX_BYTES:
            self._memory.note_freed(size)

    def _write(self, source: RequestSource, pending: Any, call: InferCall, answer: Any) -> None:
        try:
            source.write(pending, call, answer)
        except Exception as error:  # a bug in one connection must not leave the others without answers
            log.exception("a connection failed and is ended", exc_info=error)
            source.abort()


CLOCK_EVERY: Final = 8
"""Number of answers between two reads of the clock."""


def _find_urgency(entry: LoopBatchEntry) -> int:
    return entry[2].priority
