"""Every endpoint, method, spelling of the path and role: what a role may not do is refused, whatever the spelling."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from penstock import __version__
from penstock.api.rest.app import Endpoints
from penstock.api.rest.openapi import describe_openapi
from penstock.api.rest.server import DialectOptions
from penstock.core.access.endpoints import DIALECTS, GRPC, REST, TENSORFLOW_SERVING_GRPC
from penstock.core.access.permissions import ROLES
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto import tensorflow_pb2 as tf
from penstock.proto import tensorflow_serving_pb2 as ts
from tests.harness import PATIENCE_S
from tests.integration.access import ports as data_ports
from tests.integration.access.ports import INFER, Answer, DataPorts, ask
from tests.integration.access.test_credentials import bearer

ROLE_NAMES = ("caller", "viewer", "operator", "publisher", "approver", "admin", "feedback", "metrics")
"""Each role is granted for the model digits alone."""

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda path: path,
    "trailing slash": lambda path: path + "/",
    "upper case": lambda path: path.upper(),
    "double slash": lambda path: "/" + path,
    "inner double slash": lambda path: path.replace("/models/", "//models/"),
    "encoded letter": lambda path: path.replace("/v2", "/%762"),
    "encoded model": lambda path: path.replace("digits", "%64igits").replace("fraud", "%66raud"),
    "encoded slash": lambda path: path.replace("/models/", "/models%2F"),
    "dot segment": lambda path: path.replace("/v2/", "/v2/./"),
    "encoded dots": lambda path: path.replace("/v2/", "/v2/health/%2e%2e/"),
    "dots from a probe": lambda path: "/v2/health/live/.." + path.removeprefix("/v2"),
    "parameter": lambda path: path + ";/v2/health/live",
    "query": lambda path: path + "?path=/v2/health/live&access_token=x",
    "absolute": lambda path: "http://127.0.0.1" + path,
}
DIALECT_SPELLINGS = ("plain", "trailing slash", "encoded model", "encoded slash", "query")
NEEDS = {
    r"/(infer|explain)$": "predict",
    r"^/v1/models/\w+(/(versions|labels)/1)?:(predict|explain|classify|regress)$": "predict",
    r"^/(invocations|score|predict|models/\w+/invoke)$": "predict",
    r"^/models(/\w+)?$": "read predict",
    r"^/v1/models(/\w+(/(versions|labels)/1)?(/metadata)?)?$": "read predict",
    r"/feedback$": "feedback",
    r"/(load|unload)$": "operate",
    r"/v2/systemsharedmemory(/region/\w+)?/(un)?register$": "operate everywhere",
    r"/v2/systemsharedmemory(/region/\w+)?/status$": "read everywhere",
    r"/v2/models(/\w+(/versions/1)?)?/stats$": "read",
    r"/v2/models(/\w+(/versions/1)?(/ready|/config)?)?$": "read predict",
    r"/v2/repository(/\w+)?/index$": "read predict",
    r"^/v2/health/(live|ready)$": "nothing",
    r"^/(ping|health)?$": "nothing",
}
"""What each path requires, written apart from the table of the program; all others require a credential."""

CHANGES_MODELS = ("POST", "DELETE")
PROBES = ("/v2/health/live", "/v2/health/ready", "", "/health", "/ping")
REFUSED = {400, 401, 403, 404, 405}


def endpoints(ports: DataPorts) -> list[tuple[str, str]]:
    """Every method and path that the REST port offers, for the model that is granted and for the other one."""
    found = []
    for route in Endpoints(ports.planes[0], __version__).routes():
        for model in ("digits", "fraud"):
            found += [(method, _filled(route.path, model)) for method in sorted(route.methods or ())]
    for endpoint in dict.fromkeys(key for needs in DIALECTS.values() for key in needs):
        method, _, path = endpoint.partition(" ")
        methods = ("GET", "HEAD") if method == "GET" else (method,)
        found += [(method, _filled(path, model)) for model in ("digits", "fraud") for method in methods]
    return list(dict.fromkeys(found))


def _filled(path: str, model: str) -> str:
    """A path for a model."""
    names = {"{model}": model, "{version}": "1", "{region}": "r", "{repository}": "main"}
    names |= {"{health_route}": "/health", "{predict_route}": "/predict"}
    for name, value in names.items():
        path = path.replace(name, value)
    return path


def spelled(path: str) -> list[str]:
    """Every spelling of a path, each once; of those that dialects add, which are answered by the same code, some."""
    names = SPELLINGS if path.startswith("/v2") else DIALECT_SPELLINGS
    return list(dict.fromkeys(SPELLINGS[name](path) for name in names))


def may(role: str, path: str, method: str = "GET") -> bool:
    """Whether a role on the model digits may use an endpoint."""
    needed = next((need for pattern, need in NEEDS.items() if re.search(pattern, path)), "")
    if path.startswith("/models") and method in CHANGES_MODELS and not path.endswith("/invoke"):
        needed = "operate"
    if needed == "nothing":
        return True
    if "everywhere" in needed or (needed and "fraud" in path):
        return False
    return not needed or bool({str(item) for item in ROLES[role]} & set(needed.split()))


@pytest.fixture(scope="module")
def ports(models: Path) -> Iterator[DataPorts]:
    """Ports with a key of each role."""
    with data_ports.running(models, dialects=DialectOptions(tuple(DIALECTS), "digits")) as running:
        for role in ROLE_NAMES:
            running.add_key(role, role, models=("digits",))
        yield running


def body_for(path: str) -> bytes:
    """A body with which the endpoint would succeed."""
    if path.endswith(("infer", "/explain")):
        return json.dumps(INFER).encode()
    if path.endswith((":predict", ":explain", "invocations")):
        return b'{"instances":[[1,2,3]]}'
    if path.endswith((":classify", ":regress")):
        return b'{"examples":[{"x":[1,2,3]}]}'
    if path.endswith("feedback"):
        return b'{"feedback":[{"id":"a","label":1}]}'
    return b'{"key":"penstock-test-x","byte_size":8}' if path.endswith("/register") else b""


def is_refused(answer: Answer) -> bool:
    """Whether nothing was done for a request."""
    return answer.status in REFUSED


def test_openapi_describes_what_is_offered(ports: DataPorts) -> None:
    described = {
        f"{method.upper()} {path.replace('{model_name}', '{model}')}"
        for path, found in describe_openapi(__version__)["paths"].items()
        for method in found
    }
    assert described <= REST.keys()


def test_every_route_has_an_entry_and_every_entry_a_route(ports: DataPorts) -> None:
    routes = Endpoints(ports.planes[0], __version__).routes()
    found = {
        f"{'*' if len(methods) == 2 else methods[0]} {route.path}"
        for route in routes
        if (methods := sorted((route.methods or set()) - {"HEAD"}))
    }
    assert found == REST.keys()


def test_without_a_valid_credential_only_probes_answer(ports: DataPorts) -> None:
    allowed = set()
    connection = ports.connect()
    for method, path in endpoints(ports):
        for target in spelled(path):
            for key in (None, "pk_wrong"):
                answer = ask(connection, method, target, key, body_for(path) if method == "POST" else b"")
                if answer.status != 401 and answer.status != 429:
                    allowed.add((method, target, answer.status))
    connection.close()
    assert {
        (method, path.removeprefix("http://127.0.0.1").partition("?")[0].rstrip("/")) for method, path, _ in allowed
    } == {(method, probe) for method in ("GET", "HEAD") for probe in PROBES}


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_no_spelling_allows_what_a_role_may_not_do(ports: DataPorts, role: str) -> None:
    ports.repository.changes.clear()
    connection, unexpected = ports.connect(), []
    offered = endpoints(ports)
    for path in dict.fromkeys(path for _, path in offered):
        for method in dict.fromkeys([*(method for method, found in offered if found == path), *METHODS]):
            for target in spelled(path):
                answer = ask(connection, method, target, ports.keys[role], body_for(path))
                if (
                    not may(role, path, method)
                    and not is_refused(answer)
                    and not (method == "OPTIONS" and not answer.body)
                ):
                    unexpected.append((method, target, answer.status))
    connection.close()
    assert unexpected == []
    assert {model for _, model in ports.repository.changes} <= {"digits"}
    verbs = {verb for verb, _ in ports.repository.changes}
    held = {str(permission) for permission in ROLES[role]}
    assert verbs == ({"load", "unload"} if "operate" in held else set()) | (
        {"feedback"} if "feedback" in held else set()
    )


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_role_may_do_what_it_is_for(ports: DataPorts, role: str) -> None:
    connection = ports.connect()
    refused = [
        (method, path, answer.status)
        for method, path in endpoints(ports)
        if may(role, path, method)
        and (answer := ask(connection, method, path, ports.keys[role], body_for(path))).status in {401, 403, 404}
        and "cudasharedmemory" not in path
    ]
    connection.close()
    assert refused == []


def test_a_hidden_model_answers_as_a_missing_one(ports: DataPorts) -> None:
    connection = ports.connect()
    for method, path in endpoints(ports):
        if "fraud" not in path:
            continue
        answers = []
        for model in ("fraud", "never"):
            target = path.replace("fraud", model)
            answer = ask(connection, method, target, ports.keys["caller"], body_for(path) if method == "POST" else b"")
            answers.append((answer.status, answer.body.replace(model.encode(), b"MODEL"), sorted(answer.fields)))
        assert answers[0] == answers[1], path
    connection.close()


# gRPC.


def methods_of(address: str, key: str) -> list[str]:
    """Every method that the server describes by reflection, by its path."""
    with grpc.insecure_channel(address) as plain:
        channel = grpc.intercept_channel(plain, _WithKey(key))
        database = ProtoReflectionDescriptorDatabase(channel)
        return [
            f"/{service}/{method.name}"
            for service in database.get_services()
            for described in database.FindFileContainingSymbol(service).service
            if service.endswith(f".{described.name}")
            for method in described.method
        ]


class _WithKey(grpc.StreamStreamClientInterceptor):
    def __init__(self, key: str) -> None:
        self._key = key

    def intercept_stream_stream(self, continuation, details, requests):  # type: ignore[no-untyped-def]
        """Add the key."""
        return continuation(details._replace(metadata=[("authorization", f"Bearer {self._key}")]), requests)


def request_of(path: str, model: str) -> bytes:
    """A message with which the method would do something for a model."""
    name = path.rpartition("/")[2]
    if path.startswith("/tensorflow.serving."):
        return serving_request_of(name, model)
    if name in ("ModelInfer", "ModelStreamInfer"):
        message = pb.ModelInferRequest(model_name=model, raw_input_contents=[bytes(12)])
        message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
        return message.SerializeToString()
    if name in ("RepositoryModelLoad", "RepositoryModelUnload"):
        return pb.RepositoryModelLoadRequest(model_name=model).SerializeToString()
    if name in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
        return pb.ModelReadyRequest(name=model).SerializeToString()
    return b""


def serving_request_of(name: str, model: str) -> bytes:
    """The same of TensorFlow Serving's methods."""
    spec = ts.ModelSpec(name=model)
    if name == "Predict":
        shape = tf.TensorShapeProto(dim=[tf.TensorShapeProto.Dim(size=size) for size in (1, 3)])
        proto = tf.TensorProto(dtype="DT_FLOAT", tensor_shape=shape, float_val=[1, 2, 3])
        return ts.PredictRequest(model_spec=spec, inputs={"x": proto}).SerializeToString()
    if name in ("Classify", "Regress"):
        features = {"x": tf.Feature(float_list=tf.FloatList(value=[1, 2, 3]))}
        listed = ts.ExampleList(examples=[tf.Example(features=tf.Features(feature=features))])
        given = ts.Input(example_list=listed)
        return ts.ClassificationRequest(model_spec=spec, input=given).SerializeToString()
    if name.startswith("GetModel"):
        return ts.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"]).SerializeToString()
    return b""


def code_of(channel: grpc.Channel, path: str, message: bytes, key: str | None) -> tuple[grpc.StatusCode, bytes]:
    """The status of a call, and its first answer."""
    metadata = () if key is None else bearer(key)
    method: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path)
    call = method(iter([message]), metadata=metadata, timeout=PATIENCE_S)
    first = b""
    try:
        first = next(call, b"")
        if path.endswith("/Watch"):
            call.cancel()
            return grpc.StatusCode.OK, first
        return call.code(), first
    except grpc.RpcError as error:
        return error.code(), first


GRPC_NEEDS = {
    "ModelInfer": "predict",
    "ModelStreamInfer": "predict",
    "Predict": "predict",
    "Classify": "predict",
    "Regress": "predict",
    "GetModelMetadata": "read predict",
    "GetModelStatus": "read predict",
    "ModelMetadata": "read predict",
    "ModelConfig": "read predict",
    "ModelStatistics": "read",
    "RepositoryIndex": "read predict",
    "RepositoryModelLoad": "operate",
    "RepositoryModelUnload": "operate",
    "SystemSharedMemoryStatus": "everywhere",
    "SystemSharedMemoryRegister": "everywhere",
    "SystemSharedMemoryUnregister": "everywhere",
}
MODEL_METHODS = ("Model", "RepositoryModel", "Predict", "Classify", "Regress", "GetModel")
PUBLIC = ("ServerLive", "ServerReady", "Check", "Watch")
METHOD_TABLE = {**GRPC, **TENSORFLOW_SERVING_GRPC}


def test_reflection_describes_the_methods_of_the_table(ports: DataPorts) -> None:
    found = set(methods_of(ports.grpc[0], ports.keys["caller"]))
    assert found == METHOD_TABLE.keys()


@pytest.mark.parametrize("role", [None, "wrong", *ROLE_NAMES])
def test_grpc_methods_by_role(ports: DataPorts, role: str | None) -> None:
    key = None if role is None else ports.keys.get(role, "pk_wrong")
    ports.repository.changes.clear()
    wrong = []
    with grpc.insecure_channel(ports.grpc[0]) as channel:
        for path in METHOD_TABLE:
            name = path.rpartition("/")[2]
            for model in ("digits", "fraud"):
                code, first = code_of(channel, path, request_of(path, model), key)
                if name in PUBLIC:
                    expected = {grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED}
                elif role in (None, "wrong"):
                    expected = {grpc.StatusCode.UNAUTHENTICATED}
                else:
                    expected = _expected(role or "", name, model)
                if code not in expected:
                    wrong.append((path, model, code))
                if name == "ModelReady" and code is grpc.StatusCode.OK:
                    ready = pb.ModelReadyResponse.FromString(first).ready
                    held = {str(item) for item in ROLES[role or ""]}
                    assert ready == (model == "digits" and bool(held & {"read", "predict"}))
    assert wrong == []
    assert {model for _, model in ports.repository.changes} <= {"digits"}


def _expected(role: str, name: str, model: str) -> set[grpc.StatusCode]:
    held, needed = {str(item) for item in ROLES[role]}, GRPC_NEEDS.get(name, "").split()
    if name == "ModelStreamInfer":
        return {grpc.StatusCode.OK}  # a refusal is part of an answer of the stream
    if name.startswith(MODEL_METHODS) and needed:
        if model == "digits" and held & set(needed):
            return {
                grpc.StatusCode.INVALID_ARGUMENT if name == "Regress" else grpc.StatusCode.OK
            }  # it has three outputs
        if model == "fraud" or not held & {"read", "predict"}:
            return {grpc.StatusCode.NOT_FOUND}
        return {grpc.StatusCode.PERMISSION_DENIED}
    if needed and not held & set(needed):
        return {grpc.StatusCode.PERMISSION_DENIED}
    return {grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND}


@pytest.mark.parametrize(
    "path", ["/inference.GRPCInferenceService/modelinfer", "/x", "//inference.GRPCInferenceService/ModelInfer"]
)
def test_unknown_methods_require_a_credential_too(ports: DataPorts, path: str) -> None:
    with grpc.insecure_channel(ports.grpc[0]) as channel:
        assert code_of(channel, path, b"", None)[0] is grpc.StatusCode.UNAUTHENTICATED
        assert code_of(channel, path, b"", ports.keys["caller"])[0] is grpc.StatusCode.UNIMPLEMENTED
