"""Runs of one or several calls on a model: each call gets exactly its rows, or a fault that is its own."""

import logging
from collections.abc import Hashable, Sequence
from time import monotonic_ns

import numpy as np

from penstock.core.errors import Cancelled, DeadlineExceeded, Fault, Internal
from penstock.core.signature import Feeds
from penstock.core.tensors import Array
from penstock.engine.model import Interrupt, Model
from penstock.monitor.counters import NOT_COUNTED
from penstock.serving.infer_call import BatchResult, InferCall

log = logging.getLogger("penstock.serving")

Outcome = list[Array] | BatchResult | Fault
"""What a call's run gave: the arrays of its outputs, the run of which its are a part, or why there are none."""


def batch_key(call: InferCall) -> Hashable:
    """What calls must have in common to share a run: the outputs asked for, and the shape of a row of each input."""
    feeds, names = call.prepared
    if call.packed is not None:
        return None if call.requested is None else tuple(names)
    if len(feeds) == 1:
        for name, array in feeds.items():
            return (call.requested is None, name, array.shape[1:], *names)
    return (call.requested is None, tuple(names), *[(name, array.shape[1:]) for name, array in feeds.items()])


def run(model: Model, calls: Sequence[InferCall], interrupt: Interrupt | None = None) -> list[Outcome]:
    """Run calls of one likeness, in one run if they are several; if that fails, or answers with other rows than it was
    given, they are run one by one. None begins after its deadline. Any thread; never raises."""
    if len(calls) > 1:
        now = monotonic_ns()
        found = _together(model, calls, interrupt) if all(now < call.deadline_ns for call in calls) else None
        if found is not None:
            return found
    return [_alone(model, call, interrupt) for call in calls]


def _alone(model: Model, call: InferCall, interrupt: Interrupt | None) -> Outcome:
    call.started_ns = monotonic_ns()
    if call.started_ns >= call.deadline_ns:
        return DeadlineExceeded("the deadline passed while waiting")
    call.run_began = True
    try:
        arrays = model.run(_feeds([call]), call.prepared[1], interrupt)
    except Fault as fault:
        return fault
    except Exception as error:  # a bug must not take the connection down, nor end a thread
        log.exception("a request failed", exc_info=error)
        return Internal("the request failed")
    call.ran_ns = monotonic_ns()
    return arrays


def _feeds(calls: Sequence[InferCall]) -> Feeds:
    """What a run of calls of one likeness takes."""
    first = calls[0]
    if first.packed is not None:
        row = first.loaded.signature.row
        return row.feeds([call.packed for call in calls])  # type: ignore[union-attr, misc]  # or they would not be packed
    if len(calls) == 1:
        return first.prepared[0]
    return {name: np.concatenate([call.prepared[0][name] for call in calls]) for name in first.prepared[0]}


def _together(model: Model, calls: Sequence[InferCall], interrupt: Interrupt | None) -> list[Outcome] | None:
    """One run for several calls; None if it cannot be."""
    began, rows = monotonic_ns(), sum([call.rows for call in calls])
    for call in calls:
        call.run_began = True
    try:
        arrays = model.run(_feeds(calls), calls[0].prepared[1], interrupt)
    except Cancelled as fault:
        return [fault for _ in calls]  # nobody waits for any of them
    except (Fault, ValueError, MemoryError):  # of one of them, and the others must not suffer for it
        return None
    if any(len(array) != rows for array in arrays):
        return None
    ended = monotonic_ns()
    for call in calls:
        call.started_ns, call.ran_ns, call.run_rows = began, ended, NOT_COUNTED
    calls[0].run_rows = rows
    if rows == len(calls) and calls[0].requested is None:
        joint = BatchResult(arrays)
        for place, call in enumerate(calls):
            call.joint, call.place = joint, place
        return [joint] * rows
    start = 0
    found: list[Outcome] = []
    for call in calls:
        stop = start + call.rows
        found.append([array[start:stop] for array in arrays])
        start = stop
    return found
