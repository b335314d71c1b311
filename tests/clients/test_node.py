"""Large answers for @grpc/grpc-js with its defaults, and for Node's own HTTP/2, which it takes its flow control from.

The library is not among Debian's packages; ``.ci/run`` installs it with npm.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from penstock.proto import grpc_service_pb2 as pb
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")

PLAIN = Path(__file__).with_name("node_calls.js")
LIBRARY = Path(__file__).parent / "grpc_js" / "calls.js"
INSTALLED = (LIBRARY.parent / "node_modules" / "@grpc" / "grpc-js").is_dir()
HOW = "@grpc/grpc-js is not installed: npm ci --ignore-scripts --prefix tests/clients/grpc_js"
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    zoo.save(zoo.identity("FP32"), models / "echo" / "1" / "model.onnx")
    with harness.running(models, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.mark.parametrize(
    "script",
    [PLAIN, pytest.param(LIBRARY, marks=pytest.mark.skipif(not INSTALLED, reason=HOW))],
    ids=["http2", "grpc-js"],
)
@pytest.mark.parametrize(("calls", "megabytes"), [(1, 60), (12, 4), (200, 0.01)])
def test_answers_of_any_size_and_number(
    server: Server, tmp_path: Path, script: Path, calls: int, megabytes: float
) -> None:
    rows = int(megabytes * 1_000_000) // 4000
    values = np.random.default_rng(rows).standard_normal((rows, 1000), np.float32).tobytes()
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[rows, 1000])
    request = pb.ModelInferRequest(model_name="echo", inputs=[tensor], raw_input_contents=[values])
    message, folder = tmp_path / "message", tmp_path / "answers"
    message.write_bytes(request.SerializeToString())
    folder.mkdir()
    command = ["node", str(script), server.grpc, INFER, str(message), str(calls), str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (said.stderr, said.stdout.split()) == ("", ["0"] * calls)
    for index in range(calls):
        answer = pb.ModelInferResponse.FromString((folder / str(index)).read_bytes())
        assert answer.raw_output_contents[0] == values
