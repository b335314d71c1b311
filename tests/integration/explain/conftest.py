"""Command lines run inside this process, as in the unit tests of commands."""

from tests.unit.cli.conftest import penstock

__all__ = ["penstock"]
