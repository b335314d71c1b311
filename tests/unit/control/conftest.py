"""Deadlines of calls, and the lease of a leader, are long in unit tests: a busy machine fails nothing."""

import pytest

from penstock.control.calls import blocking
from penstock.core import leases
from penstock.registry.db import lease


@pytest.fixture(autouse=True)
def patient_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the deadlines; a file of tests about deadlines has a fixture of this name that does not."""
    monkeypatch.setattr(blocking, "DEADLINE_FACTOR", 40.0)


@pytest.fixture(autouse=True)
def long_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a lease, which lasts seconds by the real clock, outlast a test; a file of tests about leases has a fixture
    of this name that does not."""
    for module in (leases, lease):
        monkeypatch.setattr(module, "LEASE_S", 3600.0)
