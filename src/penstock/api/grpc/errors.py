"""Which gRPC status each fault becomes, and how a call is refused; the table is proven complete by a test."""

import asyncio
from math import ceil
from typing import Any, NoReturn

import grpc
from grpc import aio

from penstock.core.errors import Fault, Overloaded
from penstock.core.labels import GRPC_STATUS

Context = aio.ServicerContext[Any, Any]
Metadata = tuple[tuple[str, str], ...]

STATUS: dict[str, grpc.StatusCode] = {kind: grpc.StatusCode[name] for kind, name in GRPC_STATUS.items()}

GRPC_CODES: dict[str, int] = {kind: status.value[0] for kind, status in STATUS.items()}
"""The statuses' numbers on the wire."""

RETRYABLE = frozenset({"overloaded", "over_budget", "not_ready"})
"""Refusals another attempt may get past.

They travel as trailers only: a gRPC client no longer retries by itself once it has seen initial metadata.
"""

MAX_DETAILS = 1000
"""Characters of one refusal; longer texts, made of a caller's own long words, would not fit into the trailers."""


def sentence(fault: Fault) -> str:
    """What a caller is told of a fault."""
    text = str(fault)
    return text if len(text) <= MAX_DETAILS else text[: MAX_DETAILS - 3] + "..."


def retry_hints(fault: Fault) -> Metadata:
    """Trailers that say when another attempt is welcome."""
    if not isinstance(fault, Overloaded):
        return ()
    pushback_ms = max(1, ceil(fault.retry_after_s * 1000))
    return ("retry-after", str(max(1, round(fault.retry_after_s)))), ("grpc-retry-pushback-ms", str(pushback_ms))


async def refuse(context: Context, fault: Fault, facts: Metadata = (), *, told: bool = False) -> NoReturn:
    """End a call with a fault; ``facts`` say who refuses, ``told`` that the caller has them already."""
    trailing = retry_hints(fault)
    try:
        if fault.kind in RETRYABLE:
            trailing = (*facts, *trailing)
        elif facts and not told:
            await context.send_initial_metadata(facts)
        await context.abort(STATUS[fault.kind], sentence(fault), trailing)
    except aio.InternalError:  # the connection is gone, and nobody is left to hear it
        raise asyncio.CancelledError from None
