"""The server that is fuzzed: nobody else uses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import harness, zoo
from tests.conformance.mistakes import SAFE
from tests.conformance.wire import GrpcRaw, RestJson
from tests.harness import Server


@pytest.fixture(scope="package")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker with harmless models; at the end it must be the one that was started."""
    folder: Path = zoo.build_tiny(tmp_path_factory.mktemp("fuzzed"))
    with harness.running(folder, tmp_path_factory.mktemp("target")) as started:
        yield started
        assert all(map(harness.is_alive, started.workers)), started.log_text()
        assert "Traceback" not in started.log_text()


def assert_serves(server: Server) -> None:
    """Both transports answer."""
    RestJson(server).infer(SAFE)
    opened = GrpcRaw(server)
    opened.infer(SAFE)
    opened.close()
