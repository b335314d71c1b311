"""TLS on both ports, with certificates of our own: clients that vouch for them get answers, by the agreed protocol."""

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub as Stub
from tests import harness, zoo
from tests.certificates import Pair, make_certificate
from tests.harness import PATIENCE_S, Server

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificate: Pair) -> Iterator[Server]:
    """A server that speaks TLS."""
    models = tmp_path_factory.mktemp("models")
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), models / "m" / "1" / "model.onnx")
    chain, key = str(certificate.certificate), str(certificate.key)
    env = {"PENSTOCK_TLS__CERTIFICATE_FILE": chain, "PENSTOCK_TLS__KEY_FILE": key}
    with harness.running(models, tmp_path_factory.mktemp("server"), env=env) as server:
        yield server


def test_rest_works_over_tls(secure: Server, certificate: Pair) -> None:
    url = f"https://{secure.http}/v2/models/m/infer"
    curl = ["curl", "--silent", "--show-error", "--fail", "--cacert", str(certificate.certificate), "--data", BODY, url]
    said = subprocess.run(curl, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert json.loads(said.stdout)["outputs"][0]["data"] == [3, 5, 7]


def test_grpc_works_over_tls(secure: Server, certificate: Pair) -> None:
    credentials = grpc.ssl_channel_credentials(certificate.certificate.read_bytes())
    with grpc.secure_channel(secure.grpc, credentials) as channel:
        tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3])
        raw = np.array([1, 2, 3], "<f4").tobytes()
        request = pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[raw])
        answer = Stub(channel).ModelInfer(request, timeout=PATIENCE_S)
    assert np.frombuffer(answer.raw_output_contents[0], "<f4").tolist() == [3, 5, 7]


def test_tritonclient_works_over_tls(secure: Server, certificate: Pair) -> None:
    client = triton_grpc.InferenceServerClient(secure.grpc, ssl=True, root_certificates=str(certificate.certificate))
    assert client.is_model_ready("m")
    client.close()


def test_the_protocol_is_agreed_on(secure: Server, certificate: Pair) -> None:
    for address, agreed in ((secure.http, "http/1.1"), (secure.grpc, "h2")):
        context = ssl.create_default_context(cafile=str(certificate.certificate))
        context.set_alpn_protocols(["h2", "http/1.1"])
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wire,
        ):
            assert wire.selected_alpn_protocol() == agreed


def test_a_client_without_the_protocol_is_not_answered(secure: Server) -> None:
    with grpc.insecure_channel(secure.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        Stub(channel).ServerLive(pb.ServerLiveRequest(), timeout=PATIENCE_S)
    assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_files_that_cannot_be_used_are_reported_at_once(tmp_path: Path, certificate: Pair) -> None:
    models = tmp_path / "models"
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), models / "m" / "1" / "model.onnx")
    config = tmp_path / "penstock.yaml"
    config.write_text(f"tls: {{certificate_file: {certificate.key}, key_file: {certificate.certificate}}}\n")
    done = harness.run_command("serve", str(models), "--config", str(config), "--http-port", "0", folder=tmp_path)
    assert done.returncode == 2
    assert "tls: the certificate or its key cannot be used" in done.stderr
