"""The one table from faults to statuses, and the trailers that go with them."""

import grpc
import pytest

from penstock.api.grpc.errors import GRPC_CODES, MAX_DETAILS, RETRYABLE, caller_text, retry_hints
from penstock.core.errors import KINDS, Fault, InvalidInput, NotReady, Overloaded
from penstock.core.labels import GRPC_STATUS, OUTCOMES


def test_every_outcome_has_a_status() -> None:
    assert set(GRPC_CODES) == set(OUTCOMES)
    assert {kind.kind for kind in KINDS} <= set(GRPC_CODES)
    assert set(GRPC_CODES) >= RETRYABLE


def test_the_numbers_are_those_of_grpcio() -> None:
    assert {kind: grpc.StatusCode[name].value[0] for kind, name in GRPC_STATUS.items()} == GRPC_CODES


@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_has_the_status_of_success(kind: type[Fault]) -> None:
    assert GRPC_CODES[kind.kind]


def test_the_contracts_statuses() -> None:
    names = {kind.kind: GRPC_STATUS[kind.kind] for kind in KINDS}
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
        "unauthenticated": "UNAUTHENTICATED",
        "unauthorised": "PERMISSION_DENIED",
    }


def test_overload_says_when_to_come_back() -> None:
    assert dict(retry_hints(Overloaded("full", 0.25))) == {"retry-after": "1", "grpc-retry-pushback-ms": "250"}
    assert dict(retry_hints(Overloaded("full", 0.0))) == {"retry-after": "1", "grpc-retry-pushback-ms": "1"}
    assert retry_hints(NotReady("no")) == ()


def test_a_long_sentence_is_cut() -> None:
    assert caller_text(InvalidInput("x" * MAX_DETAILS)) == "x" * MAX_DETAILS
    assert caller_text(InvalidInput("x" * 99999)) == "x" * (MAX_DETAILS - 3) + "..."
