"""grpc.health.v1: the server, and the inference service by name, serve while the data plane is ready."""

import asyncio
from typing import Final

from grpc_health.v1 import health_pb2

from penstock.api.grpc.methods import Method, ServerCall, make_unary, only_message, parse_message
from penstock.core.errors import NotFound, Overloaded
from penstock.serving.data_plane import DataPlane

INFERENCE_SERVICE: Final = "inference.GRPCInferenceService"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"
SERVICES: Final = ("", INFERENCE_SERVICE)
"""Services that have a health state; "" is the whole server."""

MAX_WATCHERS: Final = 1024
"""Maximum number of open Watch calls of one worker."""


class Health:
    """Answers from ``plane.ready()``; watchers wait until readiness changes. Runs on the plane's event loop."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._draining = False
        self._watchers = 0
        self._changed = asyncio.Event()  # replaced by each change
        plane.on_readiness(self._wake)

    def methods(self) -> dict[str, Method]:
        """Return the service's methods by name."""
        return {"Check": make_unary(health_pb2.HealthCheckRequest, self._check), "Watch": Method(self._watch)}

    def drain(self) -> None:
        """Report NOT_SERVING to all watchers and end their calls."""
        self._draining = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _check(self, request: health_pb2.HealthCheckRequest, _: ServerCall) -> health_pb2.HealthCheckResponse:
        if request.service not in SERVICES:
            raise NotFound(f"unknown service '{request.service}'; expected '{INFERENCE_SERVICE}' or no name")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def _watch(self, call: ServerCall) -> None:
        """Send the state of one service now and at each change, until the server drains."""
        service = parse_message(health_pb2.HealthCheckRequest, await only_message(call)).service
        if self._watchers >= MAX_WATCHERS:
            raise Overloaded(f"the server has the maximum of {MAX_WATCHERS} Watch calls; use Check")
        self._watchers += 1
        try:
            await self._send_changes(call, service)
        finally:
            self._watchers -= 1

    async def _send_changes(self, call: ServerCall, service: str) -> None:
        sent: int | None = None
        while True:
            changed, is_last, status = self._changed, self._draining, self._status(service)
            if status != sent:
                await call.write(health_pb2.HealthCheckResponse(status=status).SerializeToString())
                sent = status
            if is_last:
                return
            await changed.wait()

    def _status(self, service: str) -> int:
        if service not in SERVICES:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        if self._plane.ready() and not self._draining:
            return health_pb2.HealthCheckResponse.SERVING
        return health_pb2.HealthCheckResponse.NOT_SERVING
