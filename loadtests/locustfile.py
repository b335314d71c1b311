"""Users for locust: V2 JSON, V2 binary and gRPC against one Penstock, every answer compared with ONNX Runtime.

``locust -f loadtests/locustfile.py --headless -u 8 -r 8 -t 5s --host http://127.0.0.1:8000 --grpc-host 127.0.0.1:8001``
against a server that has the model ``tiny``, which ``python -m loadtests models`` writes.
"""

import random
import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import ClassVar

import grpc
import grpc.experimental.gevent as grpc_gevent
from locust import FastHttpUser, User, constant, events
from locust.env import Environment

from loadtests.codecs import BINARY, CHECKED, GRPC, GRPC_METHOD, JSON, Codec, ReferenceCalls, WrongAnswer
from loadtests.graphs import repository
from loadtests.models import MODELS

grpc_gevent.init_gevent()  # users are greenlets; without this a call would hold up all of them

_MODEL = MODELS["tiny"]
repository(_MODEL)
_REFERENCE = ReferenceCalls(_MODEL)


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--grpc-host", default="127.0.0.1:8001", help="HOST:PORT of the gRPC server")


events.init_command_line_parser.add_listener(_options)


class RestUser(FastHttpUser):  # type: ignore[misc]  # locust's classes have no types here
    """Asks by JSON and by the binary tensor extension in turn, over one connection."""

    wait_time = constant(0.001)

    def json(self) -> None:
        """A row as JSON."""
        self._ask(JSON)

    def binary(self) -> None:
        """A row as bytes."""
        self._ask(BINARY)

    tasks: ClassVar = [json, binary]

    def _ask(self, codec: Codec) -> None:
        index = random.randrange(CHECKED)
        call = _REFERENCE.calls(codec)[index]
        with self.client.post(
            call.path, data=call.body, headers=dict(call.headers), name=f"rest {codec.name}", catch_response=True
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}: {answer.text}")
                return
            headers = {name.lower(): value for name, value in answer.headers.items()}
            try:
                _REFERENCE.verify(codec, index, headers, answer.content)
            except WrongAnswer as wrong:
                answer.failure(wrong)


class GrpcUser(User):  # type: ignore[misc]  # as above
    """Asks by gRPC, over one channel with a connection of its own."""

    wait_time = constant(0.001)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(environment.parsed_options.grpc_host, options=options)
        self._infer: Callable[..., bytes] = self._channel.unary_unary(GRPC_METHOD)

    def infer(self) -> None:
        """A row as a message."""
        index = random.randrange(CHECKED)
        began, size, failure = time.perf_counter(), 0, None
        try:
            body = self._infer(_REFERENCE.calls(GRPC)[index].body, timeout=5)
            size = len(body)
            _REFERENCE.verify(GRPC, index, {}, body)
        except (grpc.RpcError, WrongAnswer) as problem:
            failure = problem
        self.environment.events.request.fire(
            request_type="GRPC",
            name="grpc",
            response_time=(time.perf_counter() - began) * 1000,
            response_length=size,
            exception=failure,
        )

    tasks: ClassVar = [infer]

    def on_stop(self) -> None:
        """Close the connection."""
        self._channel.close()
