"""The models of these tests, and ports that a test has for itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.access import ports as data_ports
from tests.integration.access.ports import DataPorts


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the models."""
    return data_ports.build(tmp_path_factory.mktemp("models"))


@pytest.fixture
def ports(models: Path) -> Iterator[DataPorts]:
    """The ports of one worker, with authentication and without keys."""
    with data_ports.running(models) as running:
        yield running
