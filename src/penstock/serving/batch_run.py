"""Runs one or several calls on a model: each call gets exactly its rows of the outputs it requested, or an error.

Calls share a run only if they have the same batch key, which is made of their inputs alone. The run asks for every
output that one of them wants, and each call takes its own by name.
"""

from collections.abc import Hashable, Sequence
from time import monotonic_ns
from typing import Final

import numpy as np

from penstock.core.errors import Cancelled, DeadlineExceeded, Fault, TooLarge
from penstock.core.limits import RequestLimits
from penstock.core.signature import Feeds
from penstock.core.tensors import Array, Tensor, held_bytes
from penstock.engine.model import Model, RunInterrupt
from penstock.monitor.counters.block_writer import NOT_COUNTED
from penstock.serving.infer_call import BatchResult, InferCall, fault_of
from penstock.serving.version_info import VersionInfo

Outcome = list[Tensor] | BatchResult | Fault
"""The outcome of a call: its outputs, the batch run of which its outputs are a row, or its fault."""

PACKED: Final = "packed row"
"""The batch key of calls with one packed row: the signature determines everything else."""


def batch_key(call: InferCall) -> Hashable:
    """Return what calls must have in common to share a run: name, datatype and shape of a row of each input."""
    if isinstance(call.inputs, bytes):
        return PACKED
    feeds = call.prepared[0]
    if len(feeds) == 1:
        for name, array in feeds.items():
            return name, array.dtype.char, array.shape[1:]
    return tuple([(name, feeds[name].dtype.char, feeds[name].shape[1:]) for name in sorted(feeds)])


def are_packed(calls: Sequence[InferCall]) -> bool:
    """Whether each call has one packed row, so that all of them may share a run."""
    return all(isinstance(call.inputs, bytes) for call in calls)


def run(
    model: Model, calls: Sequence[InferCall], interrupt: RunInterrupt | None = None, on_loop: bool = False
) -> list[Outcome]:
    """Run calls of one version and one batch key, in one run if they are several; ``on_loop`` as in ``run_alone``.

    If that run fails, or does not answer with as many rows as it was given, they run one by one. None begins after its
    deadline or once it is abandoned. Any thread; never raises.
    """
    if len(calls) > 1:
        now = monotonic_ns()
        if all(now < call.deadline_ns and not call.abandoned for call in calls):
            outcomes = _run_jointly(model, calls, interrupt, on_loop)
            if outcomes is not None:
                return outcomes
    return [run_alone(model, call, interrupt, on_loop) for call in calls]


def run_alone(model: Model, call: InferCall, interrupt: RunInterrupt | None = None, on_loop: bool = False) -> Outcome:
    """Run one call by itself, unless its deadline has passed or it is abandoned. Any thread; never raises. ``on_loop``
    says that the event loop calls it, which is the only user of the memory that is bound to single rows."""
    call.started_ns = monotonic_ns()
    if call.abandoned:
        return Cancelled("the client closed the connection")
    if call.started_ns >= call.deadline_ns:
        return DeadlineExceeded("the deadline passed while waiting")
    call.run_began = True
    try:
        inputs = call.inputs
        if on_loop and call.requested is None and isinstance(inputs, bytes):
            arrays = model.run_rows(inputs)
        else:
            arrays = model.run(_own_feeds(call), call.prepared[1], interrupt)
        call.ran_ns = monotonic_ns()
        return _requested_tensors(call, arrays)
    except Exception as error:  # a bug must not take the connection down, nor end a thread
        return call.fault_of(error)


def _own_feeds(call: InferCall) -> Feeds:
    """The feeds of a run of one call."""
    inputs = call.inputs
    return call.loaded.signature.row_form().feeds(inputs) if isinstance(inputs, bytes) else call.prepared[0]


def _join_feeds(calls: Sequence[InferCall]) -> Feeds:
    """Return the feeds of a run of several calls with the same batch key."""
    first = calls[0]
    if isinstance(first.inputs, bytes):
        return first.loaded.signature.row_form().feeds(_join_rows(calls), len(calls))
    return {name: np.concatenate([call.prepared[0][name] for call in calls]) for name in first.prepared[0]}


def _join_rows(calls: Sequence[InferCall]) -> bytes:
    """Return the packed rows of calls that have one each."""
    return b"".join([call.inputs for call in calls if isinstance(call.inputs, bytes)])


def _run_jointly(
    model: Model, calls: Sequence[InferCall], interrupt: RunInterrupt | None, on_loop: bool
) -> list[Outcome] | None:
    """Run several calls in one run; return None if that is not possible and each must run alone."""
    began, rows = monotonic_ns(), sum([call.rows for call in calls])
    names, request_all = _join_requested(calls), all(call.requested is None for call in calls)
    for call in calls:
        call.run_began = True
    try:
        if on_loop and isinstance(calls[0].inputs, bytes) and request_all:
            arrays = model.run_rows(_join_rows(calls), rows)
        else:
            arrays = model.run(_join_feeds(calls), names, interrupt)
    except Cancelled as fault:
        return [fault_of(fault)] * len(calls)  # every caller has gone
    except (Fault, ValueError, MemoryError):  # the fault of one of them, from which the others must not suffer
        return None
    if any(array.shape[:1] != (rows,) for array in arrays):
        return None
    ended = monotonic_ns()
    for call in calls:
        call.started_ns, call.ran_ns, call.run_rows = began, ended, NOT_COUNTED
    calls[0].run_rows = rows
    check = calls[0].loaded.check
    if check is not None and check.is_due():
        check.take(model, names, _join_feeds(calls), arrays, [call.rows for call in calls])
    if rows == len(calls) and request_all:
        return _batch_outcomes(calls, arrays)
    return _split_outputs(calls, names, arrays)


def _join_requested(calls: Sequence[InferCall]) -> list[str]:
    """Return the outputs that at least one of the calls requests, each once."""
    first = calls[0].prepared[1]
    if all(call.prepared[1] is first for call in calls):
        return first
    return list(dict.fromkeys([name for call in calls for name in call.prepared[1]]))


def _batch_outcomes(calls: Sequence[InferCall], arrays: list[Array]) -> list[Outcome]:
    """Return the outcomes of calls of one row each that request all outputs; rows are extracted only when needed."""
    size = sum([held_bytes(array) for array in arrays]) // len(calls)
    fault = _too_large(calls[0].loaded, size)
    if fault is not None:
        return [fault] * len(calls)
    result = BatchResult(arrays)
    for index, call in enumerate(calls):
        call.batch_result, call.place, call.output_bytes = result, index, size
    return [result] * len(calls)


def _split_outputs(calls: Sequence[InferCall], names: list[str], arrays: list[Array]) -> list[Outcome]:
    """Return the rows of each call, of the outputs that it requests."""
    whole = dict(zip(names, arrays, strict=True))
    outcomes: list[Outcome] = []
    start = 0
    for call in calls:
        stop = start + call.rows
        try:
            outcomes.append(_requested_tensors(call, [whole[name][start:stop] for name in call.prepared[1]]))
        except Exception as error:  # of this call alone
            outcomes.append(call.fault_of(error))
        start = stop
    return outcomes


def _requested_tensors(call: InferCall, arrays: list[Array]) -> list[Tensor]:
    """Return the outputs in the requested form.

    Raises:
        TooLarge: they are larger than an answer may be.
    """
    call.output_bytes = sum([held_bytes(array) for array in arrays])
    fault = _too_large(call.loaded, call.output_bytes)
    if fault is not None:
        raise fault
    return call.loaded.requested_tensors(call.requested, arrays)


def _too_large(info: VersionInfo, size: int) -> TooLarge | None:
    return None if size <= info.max_output_bytes else output_too_large(size, info.limits)


def output_too_large(size: int, limits: RequestLimits) -> TooLarge:
    """Return the error of a call whose outputs are larger than an answer may be, in bytes."""
    return TooLarge(
        f"the outputs are {size} bytes, over the limit of {limits.max_output_bytes}; ask for fewer rows or outputs, "
        f"or raise {limits.max_output_setting}"
    )
