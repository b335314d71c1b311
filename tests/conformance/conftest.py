"""The four transports, each opened once."""

from collections.abc import Iterator

import pytest

from tests.conformance.wire import TRANSPORTS, Grpc, GrpcRaw, Transport
from tests.harness import Server


@pytest.fixture(scope="session", params=TRANSPORTS, ids=lambda kind: kind.name)
def transport(request: pytest.FixtureRequest, server: Server) -> Iterator[Transport]:
    """One way to ask; a test that takes it runs once for each."""
    opened: Transport = request.param(server)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def wire(server: Server) -> Iterator[Grpc]:
    """A gRPC connection, for what only gRPC has."""
    opened = GrpcRaw(server)
    yield opened
    opened.close()
