"""All services of the gRPC server: every method by its path, except ModelInfer (see ``infer_unary``)."""

from dataclasses import dataclass, field, replace
from typing import Final

from penstock.api.grpc.health import HEALTH_SERVICE, INFERENCE_SERVICE, Health
from penstock.api.grpc.infer_stream import InferStreams
from penstock.api.grpc.methods import Method
from penstock.api.grpc.reflection import METHOD as REFLECTION_METHOD
from penstock.api.grpc.reflection import REFLECTION_SERVICES, reflection_method
from penstock.api.grpc.servicer import InferenceServicer
from penstock.api.tls import ContextSource
from penstock.core.access.endpoints import GRPC
from penstock.core.access.origins import OriginPolicy
from penstock.serving.data_plane import DataPlane

INFER: Final = f"/{INFERENCE_SERVICE}/ModelInfer"


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


def methods(plane: DataPlane, streams: InferStreams, health: Health) -> dict[str, Method]:
    """Return the methods of all services by path.

    Raises:
        KeyError: the table of requirements has no entry for one of them.
    """
    inference = InferenceServicer(plane).methods() | {"ModelStreamInfer": streams.method()}
    services = {INFERENCE_SERVICE: inference, HEALTH_SERVICE: health.methods()}
    services |= {service: {REFLECTION_METHOD: reflection_method()} for service in REFLECTION_SERVICES}
    offered = {f"/{service}/{name}": method for service, found in services.items() for name, method in found.items()}
    return {path: replace(method, requirement=GRPC[path]) for path, method in offered.items()}
