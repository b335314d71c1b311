"""All services of the gRPC server: every method by its path, and what the unary calls for predictions share."""

from dataclasses import dataclass, field, replace
from typing import Final

from penstock.api.grpc.health import HEALTH_SERVICE, INFERENCE_SERVICE, Health
from penstock.api.grpc.infer_shared import InferContext
from penstock.api.grpc.infer_stream import InferStreams
from penstock.api.grpc.methods import Method
from penstock.api.grpc.reflection import METHOD as REFLECTION_METHOD
from penstock.api.grpc.reflection import REFLECTION_SERVICES, reflection_method
from penstock.api.grpc.servicer import InferenceServicer
from penstock.api.tls import ContextSource
from penstock.core.access.endpoints import GRPC, TENSORFLOW_SERVING_GRPC
from penstock.core.access.origins import OriginPolicy
from penstock.serving.data_plane import DataPlane

INFER: Final = f"/{INFERENCE_SERVICE}/ModelInfer"
TENSORFLOW_SERVING: Final = "tfs"
"""The name of the dialect in the setting ``dialects``."""


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """Options of the server; a compressed message counts with its inflated size."""

    max_message_bytes: int = 64 << 20
    max_connections: int = 4096  # at a time; beyond them idle ones are closed, or else the newcomer
    max_concurrent_streams: int = 1024  # calls under way on one connection
    stream_requests: int = 64  # requests of one ModelStreamInfer that are worked on at a time, or wait to be sent,
    stream_window_bytes: int = 16 << 20  # and their bytes, unless a single one has more
    mirrors_typed: bool = False  # typed requests are answered in typed contents, not in raw ones
    max_connection_age_s: float = 300.0  # then its client is sent away, without a loss, to spread over all processes
    keepalive_s: float = 60.0  # silence after which a connection is asked whether it is still there
    keepalive_timeout_s: float = 20.0  # and closed if it does not answer within
    tls: ContextSource | None = None  # the source of contexts, for TLS
    policy: OriginPolicy = field(default_factory=OriginPolicy)  # which hosts and origins requests may state
    dialects: frozenset[str] = frozenset()  # other protocols to speak; of those, gRPC has TensorFlow Serving's


def inference_contexts(plane: DataPlane, options: GrpcOptions) -> dict[str, InferContext]:
    """Return what the unary calls for predictions share, by the path of their method."""
    most = options.max_message_bytes
    contexts = {INFER: InferContext(plane, most, options.mirrors_typed)}
    if TENSORFLOW_SERVING in options.dialects:
        # nobody else loads these messages
        from penstock.api.grpc.tensorflow_serving.services import inference_forms  # noqa: PLC0415

        contexts |= {path: InferContext(plane, most, False, form, path[1:]) for path, form in inference_forms().items()}
    return contexts


def list_methods(
    plane: DataPlane, streams: InferStreams, health: Health, dialects: frozenset[str] = frozenset()
) -> dict[str, Method]:
    """Return the methods of all services by path, except those of ``inference_contexts``.

    Raises:
        KeyError: the table of requirements has no entry for one of them.
    """
    inference = InferenceServicer(plane).methods() | {"ModelStreamInfer": streams.method()}
    services = {INFERENCE_SERVICE: inference, HEALTH_SERVICE: health.methods()}
    has_tensorflow = TENSORFLOW_SERVING in dialects
    services |= {service: {REFLECTION_METHOD: reflection_method(has_tensorflow)} for service in REFLECTION_SERVICES}
    if has_tensorflow:
        from penstock.api.grpc.tensorflow_serving.services import ModelQueries  # noqa: PLC0415 - as above

        services |= ModelQueries(plane).services()
    offered = {f"/{service}/{name}": method for service, found in services.items() for name, method in found.items()}
    required = {**GRPC, **TENSORFLOW_SERVING_GRPC}
    return {path: replace(method, requirement=required[path]) for path, method in offered.items()}
