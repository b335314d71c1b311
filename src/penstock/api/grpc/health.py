"""grpc.health.v1: the server, and the inference service by name, serve while the data plane is ready."""

import asyncio
from contextlib import suppress

from grpc_health.v1 import health_pb2

from penstock.api.grpc.errors import Context, refuse
from penstock.api.grpc.methods import RawMethod, parsed, unary
from penstock.core.errors import Fault, NotFound
from penstock.serving.data_plane import DataPlane

INFERENCE_SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"
SERVICES = ("", INFERENCE_SERVICE)
"""What may be asked for; "" is the server as a whole."""


class Health:
    """Answers from ``plane.ready()``; a watcher hears of a change within ``poll_s`` seconds."""

    def __init__(self, plane: DataPlane, poll_s: float) -> None:
        self._plane = plane
        self._poll_s = poll_s
        self._draining = asyncio.Event()

    def methods(self) -> dict[str, RawMethod]:
        """The unary calls by name."""
        return {"Check": unary(health_pb2.HealthCheckRequest, self._check)}

    async def watch(self, raw: bytes, context: Context) -> None:
        """Tell the state of one service now and whenever it changes, until the server drains."""
        try:
            service = parsed(health_pb2.HealthCheckRequest, raw).service
        except Fault as fault:
            await refuse(context, fault)
        told = None
        while True:
            last = self._draining.is_set()
            status = self._status(service)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status).SerializeToString())
                told = status
            if last:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), self._poll_s)

    def drain(self) -> None:
        """Nothing serves any more: watchers are told, and their calls end."""
        self._draining.set()

    def _check(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        if request.service not in SERVICES:
            raise NotFound(f"unknown service '{request.service}'; expected '{INFERENCE_SERVICE}' or no name")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    def _status(self, service: str) -> int:
        if service not in SERVICES:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        if self._plane.ready() and not self._draining.is_set():
            return health_pb2.HealthCheckResponse.SERVING
        return health_pb2.HealthCheckResponse.NOT_SERVING
