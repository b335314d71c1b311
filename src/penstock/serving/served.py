"""A version that is loaded and answers: its model, its counters, and where its runs take place."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic_ns
from typing import Any

from penstock.core.classification import top_classes
from penstock.core.errors import Cancelled, DeadlineExceeded, Fault, Internal
from penstock.core.options import ModelOptions
from penstock.core.placement import runs_inline
from penstock.core.signature import Feeds
from penstock.core.tensors import Array, Tensor
from penstock.engine.model import Model
from penstock.monitor.counters import BlockWriter
from penstock.serving.calls import Call, Done, OutputWish
from penstock.serving.lane import Entry, Lane

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
        self._lane = Lane(model, max(1, options.instances), options.queue.max_queue_size or QUEUE_BOUND)
        self._all_outputs = [spec.name for spec in model.signature.outputs]
        self._all_datatypes = [spec.datatype for spec in model.signature.outputs]
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def submit(self, call: Call, done: Done) -> Callable[[], None] | None:
        """Run a call and tell ``done``, at once when it runs on the loop; else a function is returned that gives it up.

        Never raises: whatever goes wrong is the call's fault.
        """
        call.decoded_ns = call.started_ns = monotonic_ns()
        try:
            feeds = self.signature.bind(call.tensors)
            call.rows = self.signature.rows(feeds)
            names = self._names(call.wishes)
            if call.started_ns >= call.deadline_ns:
                raise DeadlineExceeded("the deadline passed before the run began")
            if not self._inline(feeds):
                return self._hand_over(call, feeds, names, done)
            arrays = self._model.run(feeds, names)
            call.ran_ns = monotonic_ns()
            call.outputs = self._tensors(call.wishes, arrays)
        except Fault as fault:
            call.fault = fault
        except Exception as error:  # a bug must not take the connection down
            call.fault = Internal(f"the request failed: {type(error).__name__}")
        done(call)
        return None

    async def close(self) -> None:
        """Wait until nobody uses the version any more, then give its memory back."""
        await self._idle.wait()
        self._lane.close()
        await asyncio.get_running_loop().run_in_executor(None, self._model.close)

    def _inline(self, feeds: Feeds) -> bool:
        elements = 0
        for array in feeds.values():
            elements += array.size
        return runs_inline(self._model.run_ns, elements, self._model.measured_elements)

    def _names(self, wishes: list[OutputWish] | None) -> list[str]:
        if wishes is None:
            return self._all_outputs
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

    def _hand_over(self, call: Call, feeds: Feeds, names: list[str], done: Done) -> Callable[[], None]:
        entry = self._lane.enter(call, feeds, names)
        self._active += 1
        self._idle.clear()
        entry.future.add_done_callback(partial(self._returned, call, done))
        return partial(self._give_up, entry)

    def _give_up(self, entry: Entry) -> None:
        self._lane.abandon(entry, Cancelled("the caller went away"))

    def _returned(self, call: Call, done: Done, future: "asyncio.Future[list[Array]]") -> None:
        self._active -= 1
        if not self._active:
            self._idle.set()
        try:
            call.outputs = self._tensors(call.wishes, future.result())
        except Fault as fault:
            call.fault = fault
        done(call)
