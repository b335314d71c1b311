"""Runs calls of one version on the event loop: which calls may run there, which share a run, and for how long."""

from collections.abc import Sequence
from typing import Final

from penstock.core.batching import MOST_ROWS, plan_runs
from penstock.core.errors import Fault
from penstock.core.placement import INLINE_BUDGET_NS, LONG_NS, NOTE_EVERY, PENALTY_NS, runs_inline, step_towards
from penstock.engine.model import Model
from penstock.serving import batch_run
from penstock.serving.batch_run import Outcome
from penstock.serving.infer_call import NEVER_NS, BatchResult, InferCall
from penstock.serving.version_info import VersionInfo

OUTPUT_BYTES: Final = 1 << 20
"""Maximum bytes of outputs of one version in a turn of the loop before other versions run."""


INPUT_BYTES: Final = 1 << 18
"""Minimum bytes of a call's inputs to run on a thread: texts may be long, and the runtime copies them."""


class InlineExecutor:
    """The executor of one version; lives on the event loop. ``gathers``: calls wait for others on threads by
    configuration.
    """

    def __init__(self, model: Model, info: VersionInfo, gathers: bool) -> None:
        self._model = model
        self._info = info
        self._gathers = gathers
        self._run_ns = None if model.inline_ns is None else float(model.inline_ns)
        self._runs = 0
        self._off_loop_until_ns = 0

    def allows(self, call: InferCall, elements: int, now_ns: int) -> bool:
        """Whether a call with this number of input elements may run on the loop now."""
        return (
            now_ns >= self._off_loop_until_ns
            and not self._gathers
            and call.input_bytes <= INPUT_BYTES
            and runs_inline(self._run_ns, elements, self._model.measured_elements)
        )

    def run(self, calls: Sequence[InferCall], until_ns: int = NEVER_NS) -> Sequence[InferCall]:
        """Run calls, together if the model's rows are independent.

        Returns:
            The calls that are left when ``until_ns`` (``time.monotonic_ns``) has passed or their outputs are many
            bytes; at least one run is made.
        """
        if len(calls) == 1:
            self._run_alone(calls[0])
            return ()
        cost = self._model.batch_cost
        if cost is None:
            return self._run_each(calls, until_ns)
        most = min(cost.most_rows(INLINE_BUDGET_NS), cost.worthwhile_rows())
        if most == 1:
            return self._run_each(calls, until_ns)
        most = min(most, self._info.signature.max_batch_size or MOST_ROWS)
        if len(calls) <= most and batch_run.are_packed(calls):
            self._run(calls)
            return ()
        runs = plan_runs([batch_run.batch_key(call) for call in calls], [call.rows for call in calls], most)
        made = 0
        for number, places in enumerate(runs, 1):
            first = calls[places[0]]
            made += self._run([calls[index] for index in places])
            if first.ran_ns > until_ns or made > OUTPUT_BYTES:
                return [calls[index] for places in runs[number:] for index in places]
        return ()

    def note_run(self, call: InferCall) -> None:
        """Learn from some runs of one call, on the loop or on a thread, whether the version runs on the loop."""
        self._runs += 1
        if self._runs % NOTE_EVERY or call.run_rows != call.rows or call.fault is not None:
            return
        took_ns = call.ran_ns - call.started_ns
        elements = sum([tensor.data.size for tensor in call.tensors])
        measured = self._model.measured_elements
        if self._run_ns is not None and took_ns > 0:
            self._run_ns = step_towards(self._run_ns, took_ns * measured / max(elements, measured))

    def _run_each(self, calls: Sequence[InferCall], until_ns: int) -> Sequence[InferCall]:
        made = 0
        for number, call in enumerate(calls, 1):
            self._run_alone(call)
            made += call.output_bytes
            if call.ran_ns > until_ns or made > OUTPUT_BYTES:
                return calls[number:]
        return ()

    def _run(self, calls: Sequence[InferCall]) -> int:
        """Run calls and set the outcome of each; return the bytes of their outputs."""
        made = 0
        for index, outcome in enumerate(batch_run.run(self._model, calls, on_loop=True)):
            set_outcome(calls[index], outcome)
            made += calls[index].output_bytes
        self._note_place(calls[0])
        return made

    def _run_alone(self, call: InferCall) -> None:
        """Run a call by itself and give it its outcome: what a lone caller waits for, without a list on the way."""
        set_outcome(call, batch_run.run_alone(self._model, call, on_loop=True))
        self._note_place(call)

    def _note_place(self, call: InferCall) -> None:
        """Learn from the first call of a run whether the version belongs on the loop."""
        if call.fault is not None:
            return
        if call.ran_ns - call.started_ns > LONG_NS:
            # its time lies in its data, which no warm-up foresees: threads take over for a while
            self._off_loop_until_ns = call.ran_ns + PENALTY_NS
        self.note_run(call)


def set_outcome(call: InferCall, outcome: Outcome) -> None:
    """Set the outcome of a call; a call of a batch run has its outputs already."""
    if isinstance(outcome, BatchResult):
        return
    if isinstance(outcome, Fault):
        call.fault = outcome
    else:
        call.outputs = outcome
