"""One model version in memory: loaded, warmed up and measured; then run, and dropped."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from penstock.core.batching import Cost, fitted
from penstock.core.errors import Cancelled, Fault
from penstock.core.options import ModelOptions, WarmupSample
from penstock.core.placement import INLINE_BUDGET_NS, WIDE_BUDGET_NS
from penstock.core.signature import Bound, Feeds, Signature, TensorSpec
from penstock.core.tensors import Array
from penstock.engine import warmup
from penstock.engine.denormals import Run
from penstock.engine.faults import LoadFailed, run_fault
from penstock.engine.graph import signature_of
from penstock.engine.session import (
    Interrupt,
    closed_run,
    holds_loop,
    open_session,
    read_graph,
    runner,
    trim_memory,
)

JOINT_ROWS, FEW_JOINT_ROWS = 8, 4
"""Rows that are answered together and apart, to see whether they may be joined; fewer where a run is long."""

JOINT_BUDGET_NS: Final = 250_000_000
"""A run longer than this is not tried together with others: it would gain nothing, and a load would take long."""

TWICE_BYTES: Final = 256 << 20
"""The largest model that is held twice in memory, for runs on one core and for such that are spread over several."""

JOINT_RELATIVE, JOINT_ABSOLUTE = 1e-3, 1e-5
"""Matrix products of several rows add up in another order than those of one."""

__all__ = ["Interrupt", "LoadFailed", "Model", "load"]


class Model:
    """A graph ready to run.

    ``run_ns`` is the measured time of one run (nanoseconds, ``None`` where the model could not be run with
    made-up inputs, or where a loop in the graph makes its time a matter of the data) over
    ``measured_elements`` input elements. ``joint`` is what a run of several rows takes, ``None`` where rows of
    different callers must not share one: the answer to a row depends on the others, or nobody could tell.

    Where a run is spread over several cores, ``narrow`` runs the same graph on one: ``abreast`` runs of it side by side
    do more in the same time than one spread run after the other. ``None`` where there is nothing to choose from.
    """

    def __init__(self, run: Run, signature: Signature) -> None:
        self.signature = signature
        self.run_ns: int | None = None
        self.measured_elements = 1
        self.joint: Cost | None = None
        self.narrow: Model | None = None
        self.abreast = 1
        self._run = run
        self._reshaped = {spec.name: spec for spec in signature.outputs if spec.graph_shape is not None}

    def run(self, feeds: Feeds, outputs: Sequence[str], interrupt: Interrupt | None = None) -> list[Array]:
        """The named outputs, in order, for arrays as ``Signature.bind`` gives them. Blocks; any thread may call it.

        Raises:
            InvalidInput: a BYTES element is no Unicode text.
            Internal: the graph failed on these values, or the model is closed.
            Cancelled: the interrupt ended the run.
        """
        try:
            results = self._run(outputs, feeds, None if interrupt is None else interrupt.run_options)
        except Exception as error:
            if interrupt is not None and interrupt.stopped:
                raise Cancelled("the run was stopped") from error
            raise run_fault(error) from error
        return self._in_stated_shapes(outputs, results) if self._reshaped else results

    def _in_stated_shapes(self, outputs: Sequence[str], results: list[Array]) -> list[Array]:
        return [
            array if (spec := self._reshaped.get(name)) is None else _stated_shape(array, spec, self.signature.batching)
            for name, array in zip(outputs, results, strict=True)
        ]

    def close(self) -> None:
        """Drop the session and give its memory back; runs under way end first, later ones fail."""
        self._run = closed_run
        if self.narrow is not None:
            self.narrow.close()
        trim_memory()


def _stated_shape(array: Array, spec: TensorSpec, batching: bool) -> Array:
    return array.reshape((array.shape[0], *spec.shape[1:]) if batching else spec.shape)


Elsewhere = Callable[[Callable[[], "Model"]], "Model"]
"""Does a piece of work on another thread, and waits for it."""


def load(path: Path, options: ModelOptions, threads: int, elsewhere: Elsewhere = lambda work: work()) -> Model:
    """Load, warm up and measure the graph at ``path``; ``threads`` is the whole budget of this process.

    A graph whose run is long on one thread is opened again with its share of the budget, unless the
    configuration states a thread count; the first session stays beside it unless the model is large, as each holds the
    weights. A session's threads inherit the priority of the one that opens it, so those of more than one thread are
    opened ``elsewhere``.

    Raises:
        LoadFailed: no graph this server can run, a configuration that contradicts it, or a failed warm-up.
    """
    stated = options.session.intra_op_threads or 1
    if stated > 1 or options.session.parallel_execution:
        return elsewhere(lambda: _load(path, options, stated))
    model = _load(path, options, stated)
    share = threads // options.instances
    if options.session.intra_op_threads or share <= 1 or model.run_ns is None or model.run_ns < WIDE_BUDGET_NS:
        return model
    beside = options.instances == 1 and _size(path.parent) <= TWICE_BYTES
    if not beside:
        model.close()
    wide = elsewhere(lambda: _load(path, options, share))
    if beside:
        wide.narrow, wide.abreast = model, share
    return wide


def _size(folder: Path) -> int:
    """Bytes of all files of a version: weights may lie beside the graph."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _load(path: Path, options: ModelOptions, intra_op_threads: int) -> Model:
    session = open_session(path, options.session, intra_op_threads)
    graph, run = read_graph(session), runner(session, options.session)
    signature = signature_of(graph, options)
    names = [spec.name for spec in signature.outputs]
    try:
        bound, results = _warm_up(run, names, signature, options)
    except _Untried:
        return Model(run, signature)
    signature = signature_of(graph.seen([array.ndim for array in results]), options)
    if signature.batching and options.max_batch_size is None and not _follows_rows(run, names, bound, results):
        signature = Signature(signature.inputs, signature.outputs)
    model = Model(run, signature)
    if holds_loop(path):
        return model
    try:
        model.run_ns = warmup.median_run_ns(lambda: _attempt(run, names, bound.feeds))
    except Fault:
        return model  # fails now and then: served all the same, but never on the event loop
    model.measured_elements = max(bound.elements, 1)
    if signature.batching and signature.max_batch_size != 1 and model.run_ns <= JOINT_BUDGET_NS:
        model.joint = _joint_cost(
            run, names, signature, JOINT_ROWS if model.run_ns <= INLINE_BUDGET_NS else FEW_JOINT_ROWS
        )
    return model


class _Untried(Exception):
    """The made-up request did not pass; only real ones can tell whether the model works."""


def _warm_up(run: Run, names: list[str], signature: Signature, options: ModelOptions) -> tuple[Bound, list[Array]]:
    """Runs the configured samples, or a made-up one; what was fed and given in the first."""
    if not options.warmup:
        try:
            bound = signature.bind(warmup.default_tensors(signature))
            return bound, _attempt(run, names, bound.feeds)
        except (Fault, MemoryError):
            raise _Untried from None
    firsts = [_run_sample(run, names, signature, sample) for sample in options.warmup]
    return firsts[0]


def _run_sample(run: Run, names: list[str], signature: Signature, sample: WarmupSample) -> tuple[Bound, list[Array]]:
    try:
        bound = signature.bind(warmup.sample_tensors(sample, signature))
        results = _attempt(run, names, bound.feeds)
        for _ in range(sample.count - 1):
            _attempt(run, names, bound.feeds)
    except (Fault, MemoryError) as error:
        raise LoadFailed(f"the warm-up '{sample.name}' failed: {error}") from error
    return bound, results


def _follows_rows(run: Run, names: list[str], bound: Bound, results: list[Array]) -> bool:
    """Whether twice the rows give twice the rows: exports often promise a free batch size and hold a fixed one."""
    rows = next(iter(bound.feeds.values())).shape[0]
    if not rows:
        return True
    try:
        twice = _attempt(run, names, warmup.doubled(bound.feeds))
    except (Fault, MemoryError):
        return False
    return all(array.shape[:1] == (rows,) for array in results) and all(
        array.shape[:1] == (2 * rows,) for array in twice
    )


def _joint_cost(run: Run, names: list[str], signature: Signature, rows: int) -> Cost | None:
    """What runs of several rows take, None unless each of random rows is answered as it is alone."""
    rows = min(rows, signature.max_batch_size or rows)
    try:
        feeds = signature.bind(warmup.random_tensors(signature, rows)).feeds
        alone = [{name: array[row : row + 1] for name, array in feeds.items()} for row in range(rows)]
        together, apart = _attempt(run, names, feeds), [_attempt(run, names, one) for one in alone]
        for index, whole in enumerate(together):
            if not _same(whole, np.concatenate([one[index] for one in apart])):
                return None
        one_ns = warmup.median_run_ns(lambda: _attempt(run, names, alone[0]), JOINT_BUDGET_NS)
        all_ns = warmup.median_run_ns(lambda: _attempt(run, names, _joined(alone)), JOINT_BUDGET_NS)
        return fitted(rows, one_ns, all_ns)
    except (Fault, MemoryError, ValueError):
        return None  # rows that cannot be made up cannot be compared


def _joined(apart: Sequence[Feeds]) -> Feeds:
    """The rows of several in one; with large rows that costs more than the run."""
    return {name: np.concatenate([one[name] for one in apart]) for name in apart[0]}


def _same(whole: Array, parts: Array) -> bool:
    if whole.shape != parts.shape:
        return False
    if whole.dtype.kind in "fc":
        return np.allclose(whole, parts, rtol=JOINT_RELATIVE, atol=JOINT_ABSOLUTE, equal_nan=True)
    return bool((whole == parts).all())


def _attempt(run: Run, names: list[str], feeds: Feeds) -> list[Array]:
    try:
        return run(names, feeds, None)
    except Exception as error:
        raise run_fault(error) from error
