"""A worker's REST port with dialects, without sockets, and a client of it."""

import json
import re
from collections.abc import Mapping
from typing import Any

from penstock.api.http1.limits import HttpLimits
from penstock.api.rest.server import DialectOptions, RestServer
from penstock.core.access.origins import ANY, OriginPolicy
from tests.fuzz.targets import BODY_BYTES, Wire, World

Answer = tuple[int, Any, dict[str, str]]
"""Status, body (its value if it is JSON) and fields."""


class DialectClient:
    """Asks one connection of a world whose REST port speaks these dialects."""

    def __init__(self, world: World, *names: str, default_model: str = "") -> None:
        self._world = world
        policy, limits = OriginPolicy([ANY], [ANY]), HttpLimits(max_body_bytes=16 * BODY_BYTES)
        options = DialectOptions(names, default_model)
        self._rest = RestServer(world.plane, "1.2.3", limits, None, policy, options)

    def ask(self, path: str, body: Any = None, method: str = "", fields: Mapping[str, str] | None = None) -> Answer:
        """Send one request and return its answer; without a body it is a GET."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in (fields or {}).items())
        verb = method or ("GET" if body is None else "POST")
        head = f"{verb} {path} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(data)}\r\n\r\n"
        return _parse(self._exchange(head.encode() + data))

    def _exchange(self, request: bytes) -> bytes:
        wire, protocol = Wire(), self._rest.http.connection()
        protocol.connection_made(wire)

        async def send() -> None:
            protocol.data_received(request)
            await self._world.settle()
            while not wire.written:
                await self._world.settle()

        self._world.loop.run_until_complete(send())
        protocol.connection_lost(None)
        return bytes(wire.written)


def _parse(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    fields = {name.decode(): value.decode() for name, value in re.findall(rb"\n([^:]+): ([^\r]*)", head)}
    is_json = fields.get("content-type") == "application/json"
    return int(head.split()[1]), _value(body.decode()) if is_json else body.decode(), fields


def _value(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:  # MLflow's server says so of other texts, too
        return body
