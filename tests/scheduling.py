"""Says which tests go to the same process, where several run the suite: those that share what is slow to start."""

from importlib import import_module
from typing import Any

import pytest

SHARED = ("tests/clients/", "tests/conformance/")
"""Folders whose tests share a server of the whole zoo; each process that starts one takes ten seconds for it."""


def scope(nodeid: str) -> str:
    """Name what goes to a process as a whole: a file, or all that share the server."""
    return SHARED[0] if nodeid.startswith(SHARED) else nodeid.split("::", 1)[0]


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Return xdist's scheduler of whole files with these scopes; xdist ships no types."""
    base = import_module("xdist.scheduler").LoadFileScheduling
    methods = {"_split_scope": lambda _, nodeid: scope(nodeid)}
    return type("SharedServerScheduling", (base,), methods)(config, log)
