"""One model version in memory: loaded, warmed up and measured; then run, and dropped."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from penstock.core.batching import NOT_EXAMINED, BatchSharing, RowProof, RunCost
from penstock.core.errors import Cancelled, Fault
from penstock.core.options import ModelOptions, WarmupSample
from penstock.core.placement import INLINE_BUDGET_NS, MULTI_THREADED_FROM_NS, runs_inline
from penstock.core.signature import BoundInputs, Feeds, Signature, TensorSpec
from penstock.core.tensors import Array, Shape
from penstock.engine import batch_trial, heap, warmup
from penstock.engine.accelerators import check_shapes
from penstock.engine.bound_runner import BoundRunner
from penstock.engine.denormals import RunSession
from penstock.engine.faults import LoadFailed, run_fault
from penstock.engine.graph import GraphInterface, infer_signature, is_sized_by_inputs
from penstock.engine.session import (
    UNINTERRUPTED,
    RunInterrupt,
    arena_release,
    bound_runner,
    choose_runner,
    closed_run,
    contains_loop,
    large_runner,
    open_session,
    read_graph,
)

TRIAL_ROWS, FEW_TRIAL_ROWS = 8, 4
"""Rows to answer together and apart, to check whether they may be joined; fewer if a run is long."""

LONGEST_TRIAL_RUN_NS: Final = 250_000_000
"""Maximum time of a run to try together with others: above it, sharing gains nothing, and a load would take long."""

TWICE_BYTES: Final = 256 << 20
"""Maximum size of a model that is held twice in memory, for runs on one core and for runs on several."""

LARGE_BYTES: Final = 1 << 20
"""Minimum bytes of the outputs of a run on a thread that are not copied."""

BOUND_ROWS: Final = 4
"""Maximum rows of a run in memory that is bound to the session: with more, its values are a small part of the run."""

UNKNOWN_BYTES: Final = 1 << 62
"""The expected size of outputs whose size depends on the values of the inputs."""

__all__ = ["LoadFailed", "Model", "RunInterrupt", "load"]


class Model:
    """A graph ready to run.

    ``run_ns`` is the measured time of one run (nanoseconds, ``None`` where the model could not be run with
    synthetic inputs, or where a loop in the graph makes its time a matter of the data) over
    ``measured_elements`` input elements. ``batch_cost`` is what a run of several rows takes, ``None`` where rows of
    different callers must not share one; ``sharing`` says why. Unless it is ``sized_by_inputs`` the values of the
    inputs may decide how large the outputs are, and with them how long a run takes.

    Where a run is spread over several cores, ``single_threaded`` runs the same graph on one: ``parallel_runs`` of it
    side by side do more in the same time than spread runs one after the other. ``None`` where there is nothing to
    choose from. A model that ``prepares_shapes`` may spend tens of milliseconds on the first run of a number of rows.
    """

    def __init__(self, run: RunSession, signature: Signature, run_large: RunSession | None = None) -> None:
        self.signature = signature
        self.run_ns: int | None = None
        self.measured_elements = 1
        self.batch_cost: RunCost | None = None
        self.sharing = BatchSharing(False, "it could not be run with synthetic inputs")
        self.sized_by_inputs = True
        self.prepares_shapes = False
        self.single_threaded: Model | None = None
        self.parallel_runs = 1
        self._run = run
        self._run_large = run_large
        self._bound_runners: list[BoundRunner | None] = [None] * (BOUND_ROWS + 1)  # by their number of rows
        self._output_names = [spec.name for spec in signature.outputs]
        self._output_ratio = 1.0  # bytes of the outputs for one of the inputs
        self._reshaped = {spec.name: spec for spec in signature.outputs if spec.graph_shape is not None}

    @property
    def inline_ns(self) -> int | None:
        """Return ``run_ns`` if it foretells the time of any run, so that runs may take place on the event loop."""
        return self.run_ns if self.sized_by_inputs and not self.prepares_shapes else None

    def run(self, feeds: Feeds, outputs: Sequence[str], interrupt: RunInterrupt | None = None) -> list[Array]:
        """Return the named outputs, in order, for arrays as ``Signature.bind`` gives them. Blocks; any thread may call
        it.

        Raises:
            InvalidInput: a BYTES element is not a Unicode text, or the graph cannot take these values.
            Internal: the graph failed, or the model is closed.
            Cancelled: the interrupt ended the run.
        """
        run = self._run
        if interrupt is not None and self._run_large is not None and self._expected_bytes(feeds) >= LARGE_BYTES:
            run = self._run_large
        try:
            results = run(outputs, feeds, UNINTERRUPTED if interrupt is None else interrupt.run_options)
        except Exception as error:
            if interrupt is not None and interrupt.is_stopped:
                raise Cancelled("the run was stopped") from error
            raise run_fault(error) from error
        return self._in_stated_shapes(outputs, results) if self._reshaped else results

    def run_rows(self, rows: bytes, count: int = 1) -> list[Array]:
        """Return all outputs, in the order of the signature, for so many packed rows (see ``Signature.row``), one after
        the other in ``rows``. Blocks; only the event loop may call it. Raises as ``run``.
        """
        runner = self._bound_runners[count] if count < len(self._bound_runners) else None
        if runner is None:
            return self._run_unbound(rows, count)
        try:
            return runner.run(rows, UNINTERRUPTED)
        except Exception:
            results = self._run_unbound(rows, count)  # raises what is wrong with a row
        self._bound_runners[count] = None  # an output has another shape than the graph states
        return results

    def _run_unbound(self, rows: bytes, count: int) -> list[Array]:
        return self.run(self.signature.row_form().feeds(rows, count), self._output_names)

    def bind_rows(self, runner: BoundRunner | None, rows: bytes, count: int = 1) -> None:
        """Use a runner for so many rows if it gives exactly the outputs of ``run`` for these."""
        if runner is None:
            return
        with suppress(Exception):  # then rows are run as all others
            expected = self._run_unbound(rows, count)
            found = runner.run(rows, UNINTERRUPTED)
            if [_copy_content(array) for array in found] == [_copy_content(array) for array in expected]:
                self._bound_runners[count] = runner

    def learn_sizes(self, feeds: Feeds, results: Sequence[Array]) -> None:
        """Learn from a run the size of outputs for a size of inputs."""
        self._output_ratio = max(1.0, sum([array.nbytes for array in results]) / max(1, _input_bytes(feeds)))

    def _expected_bytes(self, feeds: Feeds) -> float:
        """Return the expected bytes of the outputs of a run, in proportion to the bytes of its inputs."""
        return _input_bytes(feeds) * self._output_ratio if self.sized_by_inputs else UNKNOWN_BYTES

    def _in_stated_shapes(self, outputs: Sequence[str], results: list[Array]) -> list[Array]:
        return [
            array
            if (spec := self._reshaped.get(name)) is None
            else _declared_shape(array, spec, self.signature.batching)
            for name, array in zip(outputs, results, strict=True)
        ]

    def release_memory(self) -> None:
        """Release unused memory of large runs in the sessions' arenas; computes nothing. Any thread."""
        with suppress(Exception):  # it always ends as a run that was stopped
            self._run([spec.name for spec in self.signature.outputs[:1]], {}, arena_release())
        if self.single_threaded is not None:
            self.single_threaded.release_memory()

    def close(self) -> None:
        """Close the session and release its memory; open runs end first, later ones fail."""
        self._run, self._run_large = closed_run, None
        self._bound_runners = []
        if self.single_threaded is not None:
            self.single_threaded.close()
        heap.trim_heap()


def _copy_content(array: Array) -> tuple[object, Shape, bytes]:
    return array.dtype, array.shape, array.tobytes()


def _input_bytes(feeds: Feeds) -> int:
    return sum([array.nbytes for array in feeds.values()])


def _declared_shape(array: Array, spec: TensorSpec, batching: bool) -> Array:
    return array.reshape((array.shape[0], *spec.shape[1:]) if batching else spec.shape)


Elsewhere = Callable[[Callable[[], "Model"]], "Model"]
"""Runs work on another thread, and waits for it."""


def load(
    path: Path,
    options: ModelOptions,
    threads: int,
    proof: RowProof = NOT_EXAMINED,
    elsewhere: Elsewhere = lambda work: work(),
) -> Model:
    """Load, warm up and measure the graph at ``path``; ``threads`` is the whole budget of this process, and ``proof``
    what is known of the independence of rows in exactly this file.

    A graph whose run is long on one thread is opened again with its share of the budget, unless the
    configuration states a thread count; the first session stays beside it unless the model is large, as each holds the
    weights. A session's threads inherit the priority of the one that opens it, so those of more than one thread are
    opened ``elsewhere``.

    Raises:
        LoadFailed: no graph this server can run, a configuration that contradicts it, or a failed warm-up.
    """
    stated = options.session.intra_op_threads or 1
    if stated > 1 or options.session.parallel_execution:
        return elsewhere(lambda: _load(path, options, stated, proof))
    share = threads // options.instances
    model = _load(path, options, stated, proof, 1 if options.session.intra_op_threads else max(share, 1))
    if options.session.intra_op_threads or share <= 1 or model.run_ns is None or model.run_ns < MULTI_THREADED_FROM_NS:
        return model
    beside = options.instances == 1 and _measure_size(path.parent) <= TWICE_BYTES
    if not beside:
        model.close()
    multi_threaded = elsewhere(lambda: _load(path, options, share, proof))
    if beside:
        multi_threaded.single_threaded, multi_threaded.parallel_runs = model, share
    return multi_threaded


def _measure_size(folder: Path) -> int:
    """Return the bytes of all files of a version: weights may be beside the graph."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _load(path: Path, options: ModelOptions, intra_op_threads: int, proof: RowProof, beside: int = 1) -> Model:
    """Load a graph; ``beside`` are the runs of each instance that may go on side by side."""
    session = open_session(path, options.session, intra_op_threads, options.instances * beside)
    graph, run = read_graph(session), choose_runner(session, options.session)
    signature = infer_signature(graph.with_free_rows(), options)
    names = [spec.name for spec in signature.outputs]
    try:
        bound, results = _warm_up(run, names, signature, options)
    except _NotMeasurable:
        signature = infer_signature(graph, options)
        check_shapes(signature, options.session)
        return Model(run, signature, large_runner(session, options.session))
    graph = graph.with_observed_shapes(_shapes_of(graph, run, names, bound, results))
    signature = infer_signature(graph, options)
    if signature.batching and options.max_batch_size is None and not _follows_rows(run, names, bound, results):
        signature = Signature(signature.inputs, signature.outputs, symbolic_dims=signature.symbolic_dims)
    check_shapes(signature, options.session)
    model = Model(run, signature, large_runner(session, options.session))
    model.prepares_shapes = bool(options.session.accelerator)
    model.sized_by_inputs = is_sized_by_inputs(graph, signature.batching)
    model.learn_sizes(bound.feeds, results)
    refusal = batch_trial.find_refusal(graph, signature, options, proof)
    has_loop = contains_loop(path)
    if refusal or has_loop:
        model.sharing = BatchSharing(False, refusal or "a loop in its graph makes the time of a run depend on the data")
    if not has_loop:
        _measure(model, lambda feeds: _attempt(run, names, feeds), bound, None if refusal else proof)
    _bind_rows(model, session, options, bound)
    return model


def _measure(model: Model, attempt: batch_trial.Attempt, bound: BoundInputs, proof: RowProof | None) -> None:
    """Measure a run, and one of several rows unless ``proof`` is None."""
    try:
        model.run_ns = warmup.median_run_ns(lambda: attempt(bound.feeds))
    except Fault:
        return  # fails now and then: served all the same, but never on the event loop
    model.measured_elements = max(bound.elements, 1)
    if proof is not None:
        _try_sharing(model, attempt, proof)


def _bind_rows(model: Model, session: Any, options: ModelOptions, bound: BoundInputs) -> None:
    """Bind memory to single rows, and to a few rows where they share runs, for a model that runs on the event loop."""
    form, measured = model.signature.row, model.measured_elements
    if form is None or not runs_inline(model.inline_ns, measured, measured):
        return
    [values] = bound.feeds.values()
    row = values[:1].tobytes()
    for count in range(1, BOUND_ROWS + 1 if model.batch_cost is not None else 2):
        runner = bound_runner(session, options.session, form, model.signature.outputs, count)
        model.bind_rows(runner, row * count, count)


def _try_sharing(model: Model, attempt: batch_trial.Attempt, proof: RowProof) -> None:
    """Try whether rows get the same answers together as alone, and measure the cost of a batch run."""
    if model.run_ns is None or model.run_ns > LONGEST_TRIAL_RUN_NS:
        model.sharing = BatchSharing(False, "its runs are too long to gain from sharing")
        return
    try:
        rows = TRIAL_ROWS if model.run_ns <= INLINE_BUDGET_NS else FEW_TRIAL_ROWS
        model.batch_cost = batch_trial.run_trial(attempt, model.signature, rows)
    except batch_trial.RowsDiffer as error:
        model.sharing = BatchSharing(False, f"in a trial {error}")
        return
    says = "its graph proves" if proof.independent else "its configuration says"
    model.sharing = BatchSharing(True, f"{says} that rows are independent, and a trial agreed")


class _NotMeasurable(Exception):
    """The synthetic request failed; only real requests can show whether the model works."""


def _warm_up(
    run: RunSession, names: list[str], signature: Signature, options: ModelOptions
) -> tuple[BoundInputs, list[Array]]:
    """Run the configured samples, or a synthetic one; return inputs and outputs of the first."""
    if not options.warmup:
        try:
            bound = signature.bind(warmup.default_tensors(signature))
            return bound, _attempt(run, names, bound.feeds)
        except (Fault, MemoryError):
            raise _NotMeasurable from None
    firsts = [_run_sample(run, names, signature, sample) for sample in options.warmup]
    return firsts[0]


def _run_sample(
    run: RunSession, names: list[str], signature: Signature, sample: WarmupSample
) -> tuple[BoundInputs, list[Array]]:
    try:
        bound = signature.bind(warmup.sample_tensors(sample, signature))
        results = _attempt(run, names, bound.feeds)
        for _ in range(sample.count - 1):
            _attempt(run, names, bound.feeds)
    except (Fault, MemoryError) as error:
        raise LoadFailed(f"the warm-up '{sample.name}' failed: {error}") from error
    return bound, results


def _shapes_of(
    graph: GraphInterface, run: RunSession, names: list[str], bound: BoundInputs, results: list[Array]
) -> list[list[Shape]]:
    """Return the shapes of the outputs in the warm-up; and with twice the rows, if the graph may state them wrongly."""
    shapes = [[array.shape for array in results]]
    if graph.with_free_rows() != graph and bound.elements:
        with suppress(Fault, MemoryError):
            shapes.append([array.shape for array in _attempt(run, names, warmup.repeat_rows(bound.feeds))])
    return [each for each in shapes if [len(shape) for shape in each] == [len(shape) for shape in shapes[0]]]


def _follows_rows(run: RunSession, names: list[str], bound: BoundInputs, results: list[Array]) -> bool:
    """Whether twice the rows give twice the rows: exports often state a free batch size but hold a fixed one."""
    rows = next(iter(bound.feeds.values())).shape[0]
    if not rows:
        return True
    try:
        twice = _attempt(run, names, warmup.repeat_rows(bound.feeds))
    except (Fault, MemoryError):
        return False
    return all(array.shape[:1] == (rows,) for array in results) and all(
        array.shape[:1] == (2 * rows,) for array in twice
    )


def _attempt(run: RunSession, names: list[str], feeds: Feeds) -> list[Array]:
    try:
        return run(names, feeds, None)
    except Exception as error:
        raise run_fault(error) from error
