"""The console in the application of the ops port over stand-ins."""

from pathlib import Path

import pytest

from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import FakeControl, MemoryRegistrar
from tests.unit.api.console.documents import put_documents


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def registry_admin(tmp_path: Path) -> MemoryRegistrar:
    return MemoryRegistrar(tmp_path)


@pytest.fixture
def client(control: FakeControl, registry_admin: MemoryRegistrar) -> Client:
    client = Client(control, registry_admin)
    put_documents(client)
    return client
