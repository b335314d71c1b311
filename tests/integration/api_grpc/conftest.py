"""One worker for all tests of this folder, and others for tests that end theirs."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from penstock.api.grpc.http2_server import Http2Server
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.grpc_oracle import OracleServer
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.worker import Kind, Worker


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder the models lie in."""
    return workers.build(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session", params=[Http2Server, OracleServer], ids=["penstock", "grpcio"])
def carrier(request: pytest.FixtureRequest) -> Kind:
    """Our server, and the oracle on grpcio; everything here holds for both."""
    found: Kind = request.param
    return found


@pytest.fixture(scope="session")
def worker(models: Path, carrier: Kind) -> Iterator[Worker]:
    """A worker that no test may stop."""
    with workers.running(models, kind=carrier) as running:
        yield running


@pytest.fixture(scope="session")
def channel(worker: Worker) -> Iterator[grpc.Channel]:
    """A connection to it."""
    with grpc.insecure_channel(worker.address, options=[("grpc.max_send_message_length", -1)]) as opened:
        yield opened


@pytest.fixture(scope="session")
def stub(channel: grpc.Channel) -> GRPCInferenceServiceStub:
    """The generated client."""
    return GRPCInferenceServiceStub(channel)
