"""Says which tests go to the same process, where several run the suite: those that share what is slow to start."""

from importlib import import_module
from typing import Any

import pytest

GROUPS = (
    (
        "tests/clients/",
        "tests/conformance/",
        "tests/integration/cli/test_loadtest.py",
        "tests/integration/cli/test_predict.py",
        "tests/loadtests/test_locust.py",
    ),
    ("tests/integration/packaging/",),
)
"""Tests that share a server of the whole zoo, and those that share a compiled wheel."""


def scope(nodeid: str) -> str:
    """Name what goes to a process as a whole: a file, or a group."""
    return next((group[0] for group in GROUPS if nodeid.startswith(group)), nodeid.split("::", 1)[0])


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Return xdist's scheduler of whole files with these scopes; xdist ships no types."""
    base = import_module("xdist.scheduler").LoadFileScheduling
    methods = {"_split_scope": lambda _, nodeid: scope(nodeid)}
    return type("GroupScheduling", (base,), methods)(config, log)
