"""What a gateway does about the lease: a table, and what holds whatever the lease says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.leases import LEASE_S, Lease, LeaseAction, decide

LEASES = st.builds(Lease, st.sampled_from(["", "a", "b"]), st.integers(0, 5), st.floats(-100.0, 100.0, allow_nan=False))
TERMS = st.none() | st.integers(0, 5)


@pytest.mark.parametrize(
    ("lease", "term", "action"),
    [
        (Lease(), None, LeaseAction.ACQUIRE),
        (Lease("b", 3, 4.0), None, LeaseAction.WAIT),
        (Lease("b", 3, 0.0), None, LeaseAction.ACQUIRE),
        (Lease("b", 3, -9.0), None, LeaseAction.ACQUIRE),
        (Lease("b", 3, LEASE_S + 0.1), None, LeaseAction.ACQUIRE),  # the database's clock was set back
        (Lease("a", 3, 4.0), None, LeaseAction.ACQUIRE),  # our control process was replaced
        (Lease("a", 3, 4.0), 3, LeaseAction.RENEW),
        (Lease("a", 3, -9.0), 3, LeaseAction.RENEW),  # late, and nobody else came
        (Lease("b", 4, 4.0), 3, LeaseAction.STEP_DOWN),
        (Lease("b", 4, -9.0), 3, LeaseAction.STEP_DOWN),
        (Lease("a", 4, 4.0), 3, LeaseAction.STEP_DOWN),  # our control process was replaced; this is the old one
    ],
)
def test_what_is_done(lease: Lease, term: int | None, action: LeaseAction) -> None:
    assert decide(lease, "a", term) is action


@given(LEASES, st.sampled_from(["a", "b"]), TERMS)
def test_a_term_is_never_gone_on_with_once_another_began(lease: Lease, gateway: str, term: int | None) -> None:
    action = decide(lease, gateway, term)
    assert (action is LeaseAction.RENEW) == (term is not None and term == lease.term)
    assert (action is LeaseAction.STEP_DOWN) == (term is not None and term != lease.term)


@given(LEASES)
def test_nobody_takes_a_lease_that_another_one_holds(lease: Lease) -> None:
    taken = decide(lease, "c", None) is LeaseAction.ACQUIRE
    assert taken == lease.is_free
