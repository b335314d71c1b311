"""Descriptors: the limit is raised as far as it may be, and connections are bounded by it."""

import subprocess
import sys

import pytest

from penstock.app.descriptors import FEWEST, RESERVED, connection_limit

ASKED = """
import resource
from penstock.app.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 300))
print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_as_many_are_allowed_as_may_be() -> None:
    said = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["300", "300", "300"]


@pytest.mark.parametrize(
    ("configured", "descriptors", "ports", "allowed"),
    [
        (10_000, 1 << 20, 2, 10_000),
        (10_000, 1024, 2, (1024 - RESERVED) // 2),
        (10, 1024, 2, 10),
        (10_000, 1024, 1, 1024 - RESERVED),
        (10_000, 64, 2, FEWEST),
    ],
)
def test_connections_leave_descriptors_for_other_things(
    configured: int, descriptors: int, ports: int, allowed: int
) -> None:
    assert connection_limit(configured, descriptors, ports) == allowed
