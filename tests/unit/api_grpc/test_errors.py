"""The one table from faults to statuses, and the trailers that go with them."""

import asyncio
from typing import Any, cast

import grpc
import pytest
from grpc import aio

from penstock.api.grpc.errors import MAX_DETAILS, RETRYABLE, STATUS, Context, Metadata, refuse, retry_hints, sentence
from penstock.core.errors import KINDS, Cancelled, Fault, InvalidInput, NotFound, NotReady, Overloaded
from penstock.core.labels import OUTCOMES

FACTS: Metadata = (("x-request-id", "7"),)


class Recorder:
    """A servicer context that notes what it is told."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.initial: list[Metadata] = []
        self.aborted: list[Any] = []

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        if self.broken:
            raise aio.InternalError
        self.initial.append(metadata)

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Metadata) -> None:
        self.aborted.append((code, details, trailing))
        raise aio.AbortError


def refused(fault: Fault, told: bool = False) -> Recorder:
    context = Recorder()
    with pytest.raises(aio.AbortError):
        asyncio.run(refuse(cast("Context", context), fault, FACTS, told=told))
    return context


def test_every_outcome_has_a_status() -> None:
    assert set(STATUS) == set(OUTCOMES)
    assert {kind.kind for kind in KINDS} <= set(STATUS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_can_be_told(kind: type[Fault]) -> None:
    ((code, details, _),) = refused(kind("no")).aborted
    assert code is STATUS[kind.kind]
    assert code is not grpc.StatusCode.OK
    assert details == "no"


def test_the_contracts_statuses() -> None:
    names = {kind.kind: STATUS[kind.kind].name for kind in KINDS}
    assert names == {
        "conflict": "ABORTED",
        "already_exists": "ALREADY_EXISTS",
        "damaged": "DATA_LOSS",
        "refused": "FAILED_PRECONDITION",
        "invalid": "INVALID_ARGUMENT",
        "not_found": "NOT_FOUND",
        "too_large": "RESOURCE_EXHAUSTED",
        "overloaded": "RESOURCE_EXHAUSTED",
        "over_budget": "RESOURCE_EXHAUSTED",
        "unsupported": "UNIMPLEMENTED",
        "not_ready": "UNAVAILABLE",
        "deadline": "DEADLINE_EXCEEDED",
        "cancelled": "CANCELLED",
        "internal": "INTERNAL",
    }


def test_who_refuses_stands_in_the_initial_metadata_once() -> None:
    assert refused(NotFound("no")).initial == [FACTS]
    assert refused(NotFound("no"), told=True).initial == []


@pytest.mark.parametrize("fault", [NotReady("no"), Overloaded("no", 0.25)])
def test_what_a_client_may_retry_comes_as_trailers_only(fault: Fault) -> None:
    context = refused(fault)
    assert fault.kind in RETRYABLE
    assert context.initial == []
    assert context.aborted[0][2] == (*FACTS, *retry_hints(fault))


def test_overload_says_when_to_come_back() -> None:
    assert dict(retry_hints(Overloaded("full", 0.25))) == {"retry-after": "1", "grpc-retry-pushback-ms": "250"}
    assert dict(retry_hints(Overloaded("full", 0.0))) == {"retry-after": "1", "grpc-retry-pushback-ms": "1"}
    assert retry_hints(NotReady("no")) == ()


def test_a_long_sentence_is_cut() -> None:
    assert sentence(InvalidInput("x" * MAX_DETAILS)) == "x" * MAX_DETAILS
    assert sentence(InvalidInput("x" * 99999)) == "x" * (MAX_DETAILS - 3) + "..."


def test_a_connection_that_is_gone_ends_the_call() -> None:
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(refuse(cast("Context", Recorder(broken=True)), NotFound("no"), FACTS))
    with pytest.raises(aio.AbortError):
        asyncio.run(refuse(cast("Context", Recorder(broken=True)), Cancelled("no")))
