"""Deadlines of the control plane's calls are long in unit tests: a busy machine fails nothing."""

import pytest

from penstock.control.calls import blocking


@pytest.fixture(autouse=True)
def patient_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the deadlines; a file of tests about deadlines has a fixture of this name that does not."""
    monkeypatch.setattr(blocking, "DEADLINE_FACTOR", 40.0)
