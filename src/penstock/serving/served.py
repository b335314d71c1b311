"""A version that is loaded and answers: its model, its counters, and where its runs take place."""

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic_ns
from typing import Any

import numpy as np

from penstock.core.batching import MOST_ROWS, plan
from penstock.core.classification import top_classes
from penstock.core.desired import WatchSpec
from penstock.core.errors import Cancelled, DeadlineExceeded, Fault, Internal
from penstock.core.options import ModelOptions
from penstock.core.placement import INLINE_BUDGET_NS, LONG_NS, PENALTY_NS, runs_inline
from penstock.core.tensors import Array, Tensor
from penstock.engine.model import Interrupt, Model
from penstock.monitor.counters import NOT_COUNTED, BlockWriter
from penstock.serving.calls import Call, Done, OutputWish
from penstock.serving.lane import Lane
from penstock.serving.shadow import Load, ShadowLane
from penstock.serving.watch import RowWatch

log = logging.getLogger("penstock.serving")

QUEUE_BOUND = 1000
"""Runs that may wait for a thread when the model's configuration states no bound."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Names a served version."""

    model: str
    version: str


class Served:
    """One loaded version."""

    def __init__(
        self, identity: Identity, model: Model, options: ModelOptions, config: dict[str, Any], block: BlockWriter
    ) -> None:
        self.identity = identity
        self.signature = model.signature
        self.options = options
        self.config = config
        self.block = block
        self._model = model
        bound = options.queue.max_queue_size or QUEUE_BOUND
        self._lane = Lane(model, max(1, options.instances), bound, options.queue.default_timeout_ns)
        self._all_outputs = [spec.name for spec in model.signature.outputs]
        self._all_datatypes = [spec.datatype for spec in model.signature.outputs]
        self.shadow: ShadowLane | None = None
        self.watch: RowWatch | None = None
        self.watched_as: tuple[WatchSpec, int] | None = None
        self._off_loop_until_ns = 0
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def attempt(self, call: Call) -> bool:
        """Run a call here and now if its run is short; True when it has its outputs or its fault, else ``hand_over``.

        Never raises: whatever goes wrong is the call's fault.
        """
        if self.here(call):
            self._run_alone(call)
            return True
        return call.fault is not None

    def here(self, call: Call) -> bool:
        """Make a call ready to run; whether its run belongs here and now. One that has a fault is over."""
        try:
            bound = self.signature.bind(call.tensors)
            call.rows = call.run_rows = bound.rows
            names = self._all_outputs if call.wishes is None else self._names(call.wishes)
            call.decoded_ns = call.started_ns = monotonic_ns()
            if call.started_ns >= call.deadline_ns:
                raise DeadlineExceeded("the deadline passed before the run began")
            model = self._model
            call.prepared = bound.feeds, names
            return call.started_ns >= self._off_loop_until_ns and runs_inline(
                model.run_ns, bound.elements, model.measured_elements
            )
        except Fault as fault:
            call.fault = fault
        except Exception as error:  # a bug must not take the connection down
            log.exception("a request failed", exc_info=error)
            call.fault = Internal("the request failed")
        return False

    def run_here(self, calls: Sequence[Call]) -> None:
        """Run calls that belong here, together where rows of different callers may share a run."""
        joint = self._model.joint
        if joint is None or len(calls) == 1:
            for call in calls:
                self._run_alone(call)
            return
        most = min(joint.most_rows(INLINE_BUDGET_NS), self.signature.max_batch_size or MOST_ROWS)
        for run in plan([_likeness(call) for call in calls], [call.rows for call in calls], most):
            if len(run) == 1:
                self._run_alone(calls[run[0]])
            else:
                self._run_together([calls[place] for place in run])

    def _run_alone(self, call: Call) -> None:
        try:
            call.started_ns = monotonic_ns()
            arrays = self._model.run(*call.prepared)
            self._ran([call])
        except Fault as fault:
            call.fault = fault
        except Exception as error:  # a bug must not take the connection down
            log.exception("a request failed", exc_info=error)
            call.fault = Internal("the request failed")
        else:
            self._grant(call, arrays)

    def _grant(self, call: Call, arrays: list[Array]) -> None:
        """Give a call the outputs it asked for; one that cannot be as it was asked for is the call's fault alone."""
        try:
            call.outputs = self._tensors(call.wishes, arrays)
        except Fault as fault:
            call.fault = fault
        except Exception as error:  # a bug must not take the others of a run down
            log.exception("a request failed", exc_info=error)
            call.fault = Internal("the request failed")

    def _run_together(self, calls: Sequence[Call]) -> None:
        """One run for several calls, each of which gets its rows; if it fails, or answers with other rows than it was
        given, they are run one by one."""
        began, rows = monotonic_ns(), sum([call.rows for call in calls])
        first, names = calls[0].prepared
        arrays: list[Array] = []
        with suppress(Fault, ValueError, MemoryError):  # of one of them, and the others must not suffer for it
            feeds = {name: np.concatenate([call.prepared[0][name] for call in calls]) for name in first}
            arrays = self._model.run(feeds, names)
        if not arrays or any(len(array) != rows for array in arrays):
            for call in calls:
                self._run_alone(call)
            return
        for call in calls:
            call.started_ns, call.run_rows = began, NOT_COUNTED
        calls[0].run_rows = rows
        self._ran(calls)
        start = 0
        for call in calls:
            stop = start + call.rows
            self._grant(call, [array[start:stop] for array in arrays])
            start = stop

    def _ran(self, calls: Sequence[Call]) -> None:
        """Note when runs have ended; a long one's time lies in its data, which no warm-up foresees: threads take the
        version's calls for a while."""
        now = monotonic_ns()
        for call in calls:
            call.ran_ns = now
        if now - calls[0].started_ns > LONG_NS:
            self._off_loop_until_ns = now + PENALTY_NS

    def hand_over(self, call: Call, done: Done) -> Callable[[], None]:
        """Queue a call that ``attempt`` declined; ``done`` is told on the loop. The result gives the call up."""
        try:
            entry = self._lane.enter(call)
        except Fault as fault:
            call.fault = fault
            asyncio.get_running_loop().call_soon(done, call)
            return _nothing
        self.block.entered()
        self._active += 1
        self._idle.clear()
        entry.future.add_done_callback(partial(self._returned, call, done))
        return partial(self._lane.abandon, entry, Cancelled("the caller went away"))

    def as_shadow(self, load: Load) -> ShadowLane:
        """The lane in which this version answers once more what others have answered."""
        if self.shadow is None:
            self.shadow = ShadowLane(self, load)
        return self.shadow

    def rerun(self, call: Call, interrupt: Interrupt) -> tuple[list[Tensor], int]:
        """This version's outputs for another one's call, and the nanoseconds its model took; on any thread.

        Raises:
            Fault: it does not take these inputs, has no such outputs, or failed.
        """
        bound = self.signature.bind(call.tensors)
        names = self._all_outputs if call.wishes is None else self._names(call.wishes)
        began = monotonic_ns()
        arrays = self._model.run(bound.feeds, names, interrupt)
        return self._tensors(call.wishes, arrays), monotonic_ns() - began

    async def close(self) -> None:
        """Wait until nobody uses the version any more, then give its memory back."""
        if self.shadow is not None:
            self.shadow.close()
        await self._idle.wait()
        if self.watch is not None:
            self.watch.close()
        self._lane.close()
        await asyncio.get_running_loop().run_in_executor(None, self._model.close)

    def _names(self, wishes: list[OutputWish]) -> list[str]:
        for wish in wishes:
            self.signature.output(wish.name)
        return [wish.name for wish in wishes]

    def _tensors(self, wishes: list[OutputWish] | None, arrays: list[Array]) -> list[Tensor]:
        if wishes is None:
            return list(map(Tensor, self._all_outputs, self._all_datatypes, arrays))
        return [self._granted(wish, array) for wish, array in zip(wishes, arrays, strict=True)]

    def _granted(self, wish: OutputWish, array: Array) -> Tensor:
        spec = self.signature.output(wish.name)
        tensor = Tensor(wish.name, spec.datatype, array)
        return top_classes(tensor, wish.classes, spec.labels, self.signature.batching) if wish.classes else tensor

    def _returned(self, call: Call, done: Done, future: "asyncio.Future[list[Array]]") -> None:
        self.block.left()
        self._active -= 1
        if not self._active:
            self._idle.set()
        try:
            call.outputs = self._tensors(call.wishes, future.result())
        except Fault as fault:
            call.fault = fault
        done(call)


def _likeness(call: Call) -> Hashable:
    """What calls must have in common to share a run: the outputs asked for, and the shape of a row of each input."""
    feeds, names = call.prepared
    return (tuple(names), *[(name, array.shape[1:]) for name, array in feeds.items()])


def _nothing() -> None:
    """Gives up what has ended already."""
