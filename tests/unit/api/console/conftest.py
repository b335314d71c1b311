"""The console in the application of the ops port over stand-ins."""

import pytest

from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import FakeControl, MemoryRegistrar
from tests.unit.api.console.documents import put_documents


@pytest.fixture
def client(control: FakeControl, registry_admin: MemoryRegistrar) -> Client:
    client = Client(control, registry_admin)
    put_documents(client)
    return client
