"""The gRPC client of the data plane: converts V2 JSON documents to messages and back."""

from collections.abc import Mapping
from typing import Any, Self

import grpc
import numpy as np

from penstock.cli.client import CallFailed, Document, InferReply
from penstock.cli.console import ExitCode
from penstock.cli.credentials import read_authorization
from penstock.cli.tls import TlsAddress, explain, name_to_verify, read_pair, read_roots
from penstock.core.errors import Fault
from penstock.core.tensors import Array, from_raw, numpy_type, to_raw
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub

EXITS = {
    grpc.StatusCode.UNAUTHENTICATED: ExitCode.UNAUTHORISED,
    grpc.StatusCode.PERMISSION_DENIED: ExitCode.UNAUTHORISED,
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE: ExitCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExitCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.UNAVAILABLE,
}
NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class GrpcClient:
    """Keeps one channel to ``address`` (host:port, or a port with TLS); times are seconds.

    Raises:
        CallFailed: the certificate of a gateway on this machine cannot be read, or it presents another one.
    """

    def __init__(self, address: str | TlsAddress, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._channel = _open_channel(address, timeout_s)
        self._stub = GRPCInferenceServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def metadata(self, model: str, version: str) -> Document:
        """See ``Client``."""
        try:
            answer = self._stub.ModelMetadata(
                pb.ModelMetadataRequest(name=model, version=version),
                timeout=self._timeout_s,
                metadata=_read_credentials(),
            )
        except grpc.RpcError as error:
            raise read_failure(error) from None
        tensors = {"inputs": describe_specs(answer.inputs), "outputs": describe_specs(answer.outputs)}
        return {"name": answer.name, **tensors, "properties": dict(answer.properties)}

    def infer(self, model: str, version: str, request: Document) -> InferReply:
        """See ``Client``."""
        message = to_message(model, version, request)
        try:
            answer, call = self._stub.ModelInfer.with_call(
                message, timeout=self._timeout_s, metadata=_read_credentials()
            )
        except grpc.RpcError as error:
            raise read_failure(error) from None
        metadata = {key: str(value) for key, value in call.initial_metadata() or ()}
        return InferReply(
            from_message(answer), metadata.get("penstock-model-version", ""), metadata.get("penstock-route", "")
        )

    def statistics(self, model: str, version: str) -> list[Document]:
        """See ``Client``."""
        try:
            answer = self._stub.ModelStatistics(
                pb.ModelStatisticsRequest(name=model, version=version),
                timeout=self._timeout_s,
                metadata=_read_credentials(),
            )
        except grpc.RpcError as error:
            raise read_failure(error) from None
        return [
            {"version": version.version, "inference_stats": _describe_durations(version.inference_stats)}
            for version in answer.model_stats
        ]


def _describe_durations(statistics: Any) -> Document:
    """Return the counts and nanoseconds of each stage in the form of REST."""
    return {field.name: {"count": value.count, "ns": value.ns} for field, value in statistics.ListFields()}


def _open_channel(address: str | TlsAddress, timeout_s: float) -> grpc.Channel:
    if not isinstance(address, TlsAddress):
        return grpc.insecure_channel(address, options=NO_LIMIT)
    try:
        credentials = grpc.ssl_channel_credentials(read_roots(address), *read_pair())
        name = name_to_verify(address, timeout_s)
    except OSError as error:
        raise CallFailed(f"no answer from {address}: {explain(error)}", ExitCode.UNAVAILABLE) from None
    override = [] if name is None else [("grpc.ssl_target_name_override", name)]
    return grpc.secure_channel(address.address, credentials, [*NO_LIMIT, *override])


def _read_credentials() -> tuple[tuple[str, str], ...]:
    """Return the metadata with the credential of the command."""
    value = read_authorization()
    return () if value is None else (("authorization", value),)


def read_failure(error: grpc.RpcError) -> CallFailed:
    """Return the error and exit code for a failed call."""
    if not isinstance(error, grpc.Call):
        return CallFailed(str(error), ExitCode.FAILURE)
    return CallFailed(error.details() or error.code().name, EXITS.get(error.code(), ExitCode.FAILURE))


def describe_specs(tensors: Any) -> list[Document]:
    """Return tensor metadata in the form of REST."""
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in tensors]


def to_message(model: str, version: str, request: Document) -> pb.ModelInferRequest:
    """Convert a V2 JSON request to a message with raw contents.

    Raises:
        CallFailed: a tensor's data does not fit its datatype and shape.
    """
    message = pb.ModelInferRequest(model_name=model, model_version=version, id=str(request.get("id", "")))
    _set_parameters(message.parameters, request.get("parameters", {}))
    for tensor in request["inputs"]:
        try:
            array = array_of(tensor["name"], tensor["datatype"], tensor["data"]).reshape(tensor["shape"])
        except (Fault, KeyError, TypeError, ValueError, OverflowError) as error:
            raise CallFailed(
                f"the data of input '{tensor.get('name', '')}' does not fit: {error}", ExitCode.USAGE
            ) from None
        message.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=array.shape)
        message.raw_input_contents.append(to_raw(tensor["datatype"], array))
    for output in request.get("outputs", ()):
        _set_parameters(message.outputs.add(name=output["name"]).parameters, output.get("parameters", {}))
    return message


def array_of(name: str, datatype: str, data: Any) -> Array:
    """Convert JSON values, flat or nested, to an array of a V2 datatype; nothing is rounded silently.

    Raises:
        ValueError: the datatype is unknown, or a value is outside its range.
    """
    dtype = numpy_type(name, datatype)
    if datatype == "BF16":
        return (np.asarray(data, np.float32).view(np.uint32) >> 16).astype(dtype)
    array = np.asarray(data, dtype)
    if dtype.kind in "iu" and not np.array_equal(array, np.asarray(data)):
        raise ValueError(f"{datatype} takes whole numbers")
    return array


def from_message(answer: pb.ModelInferResponse) -> Document:
    """Convert an answer to the V2 JSON document of REST."""
    outputs = []
    for tensor, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        array = from_raw(tensor.name, tensor.datatype, tensor.shape, raw)
        if tensor.datatype == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        data = array.ravel().tolist()
        outputs.append({"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "data": data})
    return {"model_name": answer.model_name, "model_version": answer.model_version, "id": answer.id, "outputs": outputs}


def _set_parameters(target: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        match value:
            case bool():
                target[key].bool_param = value
            case int():
                target[key].int64_param = value
            case float():
                target[key].double_param = value
            case _:
                target[key].string_param = str(value)
