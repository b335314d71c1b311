"""What the gRPC server offers, whatever carries it: its options, and the handlers of every service."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import grpc

from penstock.api.grpc.health import HEALTH_SERVICE, INFERENCE_SERVICE, Health
from penstock.api.grpc.infer import Inference
from penstock.api.grpc.methods import RawMethod
from penstock.api.grpc.reflection import METHOD as REFLECTION_METHOD
from penstock.api.grpc.reflection import REFLECTION_SERVICES, reflection_method
from penstock.api.grpc.servicer import InferenceServicer
from penstock.serving.data_plane import DataPlane

INFER = f"/{INFERENCE_SERVICE}/ModelInfer"

Handlers: TypeAlias = "dict[str, grpc.RpcMethodHandler[Any, Any]]"


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """Bounds and habits of the server.

    Requests may be compressed in any way gRPC knows, and are counted against ``max_message_bytes`` while they are
    inflated. grpcio does not show a server how a request was compressed, so its answers follow
    ``response_compression``; our own server answers as it was asked.
    """

    max_message_bytes: int = 64 << 20
    max_concurrent_streams: int = 1024  # calls under way on one connection
    stream_window: int = 64  # requests under way in one ModelStreamInfer
    response_compression: Literal["none", "gzip", "deflate"] = "none"
    max_connection_age_s: float = 300.0  # then its client is sent away, without a loss, to spread over all processes
    keepalive_s: float = 60.0  # silence after which a connection is asked whether it is still there
    keepalive_timeout_s: float = 20.0  # and closed if it does not answer within
    min_ping_s: float = 10.0  # clients that ping more often, without calls, are disconnected
    health_poll_s: float = 0.25
    certificate: tuple[str, str] | None = None  # files of the certificate chain and its key, for TLS


def services(plane: DataPlane, inference: Inference, health: Health) -> dict[str, Handlers]:
    """Every service's methods over raw messages; gRPC asks them one after the other, so what matters comes first."""
    methods = _unary(InferenceServicer(plane).methods())
    methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(inference.infer)
    methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(inference.stream)
    checks = _unary(health.methods())
    checks["Watch"] = grpc.unary_stream_rpc_method_handler(health.watch)
    reflection = {REFLECTION_METHOD: reflection_method()}
    return {INFERENCE_SERVICE: methods, HEALTH_SERVICE: checks} | dict.fromkeys(REFLECTION_SERVICES, reflection)


def _unary(methods: dict[str, RawMethod]) -> Handlers:
    return {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
