"""Makes explanations beside the predictions of a worker: a few at a time, on a thread of their own and by calls of
class ``batch``, within a time.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

import numpy as np

from penstock.core.bins import Floats
from penstock.core.errors import Cancelled, Internal, InvalidInput, Overloaded
from penstock.core.explanations import MOST_RUN_ROWS, ExplanationOptions, budget_deadline_ns, check_size
from penstock.core.tensors import Tensor
from penstock.monitor.row_attributions import RowAttributions
from penstock.serving.explanations.answer import answer_parameters, answer_tensors
from penstock.serving.explanations.attributions import BUDGET_NS, AttributionSampler
from penstock.serving.explanations.explained_version import FULL, ExplainedVersion
from penstock.serving.explanations.preparation import Prepared, Steps, VersionExplanations, prepare_explanation
from penstock.serving.explanations.run_rows import RowRuns, batch_call, run_call
from penstock.serving.infer_call import InferCall, OnDone, Servable
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.observers.explained_rows import ExplainedRows
from penstock.serving.offload import OffloadPool

if TYPE_CHECKING:
    from penstock.explain.methods import Explanation

MOST_RUNNING: Final = 2
"""Explanations of a worker at a time."""

THREAD_BYTES: Final = 1 << 40
"""The bound in bytes of the queue of their thread; ``MOST_RUNNING`` bounds its jobs."""

NO_MEMORY: Final = "the server has no memory left for the explanation; try again later"
OTHER_INPUTS: Final = "version '{}' takes other inputs, so the two versions cannot be compared"
OTHER_OUTPUTS: Final = "the two versions have outputs of different sizes, so they cannot be compared"

FindVersion = Callable[[tuple[str, str]], LoadedVersion]
"""Returns a loaded version of a model, by version or alias; raises ``NotFound`` or ``NotReady``."""


class Explainer:
    """The explanations of one worker; lives on its event loop. ``find`` finds the version that another one is compared
    with."""

    def __init__(self, memory: MemoryBudget, find: FindVersion) -> None:
        self._memory = memory
        self._find = find
        self._running = 0
        self._thread = OffloadPool(THREAD_BYTES, threads=1)
        self._tasks: set[asyncio.Task[None]] = set()

    def explained(self, loaded: Servable) -> ExplainedVersion:
        """Return a loaded version as it answers with explanations."""
        if not isinstance(loaded, LoadedVersion):
            raise Internal("the request failed")
        if loaded.explained is None:
            kept = VersionExplanations(loaded)
            loaded.explained = ExplainedVersion(kept, partial(self._start, kept), self.is_full)
        explained = loaded.explained
        if not isinstance(explained, ExplainedVersion):
            raise Internal("the request failed")
        return explained

    def is_full(self) -> bool:
        """Whether there are as many explanations as may be."""
        return self._running >= MOST_RUNNING

    def sampler(self, loaded: LoadedVersion, send: Callable[[RowAttributions], None]) -> AttributionSampler:
        """Return what explains live rows of a version; ``send`` takes what they give."""
        datatypes = {spec.name: spec.datatype for spec in loaded.signature.inputs}
        return AttributionSampler(datatypes, partial(self._make_beside, VersionExplanations(loaded)), send)

    def explain_beside(self, sampler: AttributionSampler, rows: ExplainedRows) -> None:
        """Begin to explain waiting live rows, unless it is too early or an explanation is being made."""
        if sampler.is_due() and not self._running and not self._tasks:
            task = asyncio.get_running_loop().create_task(sampler.explain(rows))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _make_beside(
        self, kept: VersionExplanations, tensors: list[Tensor], options: ExplanationOptions
    ) -> "tuple[Prepared, Explanation]":
        """Explain live rows, in memory that is to spare; raises a ``Fault``."""
        call = batch_call(kept.loaded, tensors, None, monotonic_ns() + BUDGET_NS)
        call.rows = len(tensors[0].data)
        size = _held_bytes(call)
        if not self._memory.take_spare(size):
            raise Overloaded(NO_MEMORY)
        kept.loaded.hold()
        try:
            return await self._make(kept, call, options)
        finally:
            kept.loaded.release()
            self._memory.give_back(size)

    def close(self) -> None:
        """End the thread."""
        self._thread.close()

    def _start(
        self, kept: VersionExplanations, version: ExplainedVersion, call: InferCall, on_done: OnDone
    ) -> Callable[[], None]:
        task = asyncio.get_running_loop().create_task(self._answer(kept, version, call, on_done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return partial(_cancel, task)

    async def _answer(
        self, kept: VersionExplanations, version: ExplainedVersion, call: InferCall, on_done: OnDone
    ) -> None:
        """Make the explanation of a call, count it, and pass the call on."""
        version.hold()
        began_ns = monotonic_ns()
        try:
            await self._explain(kept, call)
        except asyncio.CancelledError:
            call.fail(Cancelled("the client closed the connection"))
        except Exception as error:  # a bug must not take the connection down
            call.fail(error)
        call.ran_ns = monotonic_ns()
        version.loaded.block.count_explanation(_find_outcome(call), call.ran_ns - began_ns)
        version.release()
        on_done(call)

    async def _explain(self, kept: VersionExplanations, call: InferCall) -> None:
        record = call.explanation
        if record is None:
            raise Internal("the request failed")
        if self.is_full():
            raise Overloaded(FULL)
        size = _held_bytes(call)
        if not self._memory.take(size):
            raise self._memory.refusal(size, NO_MEMORY)
        self._running += 1
        try:
            prepared, made = await self._make(kept, call, record.options)
            if record.options.with_predictions:
                predicted = batch_call(kept.loaded, call.tensors, None, call.deadline_ns)
                record.predictions = (await run_call(predicted)).outputs
            call.outputs = await self._thread.run(partial(answer_tensors, prepared, made), size)
            record.parameters = answer_parameters(prepared, made, record.options.against)
            call.output_bytes = sum([tensor.data.nbytes for tensor in call.outputs])
        finally:
            self._running -= 1
            self._memory.give_back(size)

    async def _make(
        self, kept: VersionExplanations, call: InferCall, options: ExplanationOptions
    ) -> "tuple[Prepared, Explanation]":
        """Prepare an explanation and run its steps: what they compute on the thread, and what they ask on versions."""
        until_ns = budget_deadline_ns(monotonic_ns(), options.budget_ns, call.deadline_ns)
        other = None if not options.against else self._other(kept.loaded, options.against)
        work = partial(prepare_explanation, kept, other, call.tensors, options, until_ns)
        prepared = await self._thread.run(work, call.input_bytes)
        versions = [kept.loaded] if other is None else [kept.loaded, other.loaded]
        columns = () if prepared.selects_after else prepared.columns
        runs = [
            RowRuns(version, prepared.matrix, prepared.output.name, columns, call.deadline_ns) for version in versions
        ]
        return prepared, await self._run_steps(prepared, runs, call.rows)

    async def _run_steps(self, prepared: Prepared, runs: list[RowRuns], rows: int) -> "Explanation":
        outputs: Floats | None = None
        while isinstance(wanted := await self._thread.run(partial(_advance, prepared.steps, outputs), 0), np.ndarray):
            found = [await run.run(wanted) for run in runs]
            if len({item.shape[1] for item in found}) > 1:
                raise InvalidInput(OTHER_OUTPUTS)
            if not prepared.selects_after:
                check_size(rows, len(prepared.matrix.features), found[0].shape[1])
            outputs = np.concatenate(found, axis=1)
        return wanted

    def _other(self, loaded: LoadedVersion, against: str) -> VersionExplanations:
        """Return the version to compare with.

        Raises:
            InvalidInput: it takes other inputs.
            Fault: it is not served.
        """
        other = self._find((loaded.identity.model, against))
        own, others = (
            [(spec.name, spec.datatype, spec.shape) for spec in version.signature.inputs] for version in (loaded, other)
        )
        if own != others:
            raise InvalidInput(OTHER_INPUTS.format(other.identity.version))
        return self.explained(other).kept


def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()


def _advance(steps: Steps, outputs: Floats | None) -> "Floats | Explanation":
    """Go on with the steps of an explanation; return the next rows to run, or its result. On the thread."""
    try:
        return next(steps) if outputs is None else steps.send(outputs)
    except StopIteration as end:
        made: Explanation = end.value
        return made


def _find_outcome(call: InferCall) -> str:
    if call.fault is not None or call.explanation is None:
        return "failed"
    return "exact" if call.explanation.parameters.get("exact") else "sampled"


def _held_bytes(call: InferCall) -> int:
    """Return the bytes that an explanation holds at a time: the rows that it runs, and its numbers."""
    values = sum([tensor.data.size for tensor in call.tensors])
    features = max(1, values // max(1, call.rows))
    return 8 * (values + 8 * MOST_RUN_ROWS * features)
