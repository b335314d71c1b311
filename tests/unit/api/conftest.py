"""What tests of the ports share: certificates, and what the applications of the ops port stand on."""

from pathlib import Path

import pytest

from tests.certificates import Pair, make_authority, make_certificate
from tests.unit.api.admin.standin import FakeControl, MemoryRegistrar


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The certificate of a port, which is its own authority."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """An authority of clients."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def registry_admin(tmp_path: Path) -> MemoryRegistrar:
    return MemoryRegistrar(tmp_path)
