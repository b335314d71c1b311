"""Users for locust that test any model of a gateway, by REST and by gRPC, and objectives that decide the exit code.

Copy this file: it needs ``pip install penstock locust`` and nothing else of this folder. It makes requests from the
model's signature. Headless, as in CI:

``locust -f locustfile.py --headless -u 8 -t 30s --host http://127.0.0.1:8000 --model score --slo 'p99<50ms'``

With TLS, ``--host`` begins with https://, and ``--ca-file`` names who vouches for the gateway. A token is read from the
file that PENSTOCK_TOKEN_FILE names. A breached objective ends locust with 4. Its users wait for their answers, so a
gateway that stalls is asked less meanwhile: use it for many users with different behaviour, and ``penstock loadtest``
for latency at a rate.
"""

import json
import os
import ssl
import time
from argparse import ArgumentParser
from array import array
from itertools import cycle
from pathlib import Path
from typing import Any, ClassVar

import grpc
import grpc.experimental.gevent as grpc_gevent
import numpy as np
from locust import FastHttpUser, User, constant, events
from locust.env import Environment

from penstock.cli.addresses import address_of
from penstock.cli.client import Document, RestClient, model_path
from penstock.cli.grpc_client import to_message
from penstock.cli.tls import HTTPS, using_files
from penstock.loadtest.histogram import HdrHistogram
from penstock.loadtest.inputs import make_requests
from penstock.loadtest.measurement import figure_ms
from penstock.loadtest.objectives import LATENCIES, judge, parse_objective

grpc_gevent.init_gevent()  # users are greenlets; without this a call would hold up all of them

BREACH = 4
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
TIMEOUT_S = 10


def authorization() -> dict[str, str]:
    """The header with the token in the file that PENSTOCK_TOKEN_FILE names, if it does."""
    file = os.environ.get("PENSTOCK_TOKEN_FILE")
    return {"authorization": f"Bearer {Path(file).read_text().strip()}"} if file else {}


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this file to those of locust."""
    parser.add_argument("--model", required=True, help="the model")
    parser.add_argument("--model-version", default="", help="its version or alias; without it the route decides")
    parser.add_argument("--grpc-host", default="", help="HOST:PORT of the gRPC port; without it users use REST alone")
    parser.add_argument("--ca-file", type=Path, help="authorities that vouch for https://; without it the system's")
    parser.add_argument("--rows", type=int, default=1, help="rows of each request")
    parser.add_argument("--slo", action="append", default=[], help="an objective, such as p99<50ms or errors<0.1%%")


class Answers:
    """The durations of all answers in milliseconds, and the number of failures; judged at the end."""

    def __init__(self) -> None:
        self.durations = array("d")
        self.failures = 0
        self.began = time.monotonic()

    def note(self, response_time: float, exception: object = None, **_: Any) -> None:
        """Take one answer, as locust's event has it."""
        if exception is None:
            self.durations.append(response_time)
        else:
            self.failures += 1

    def figures(self) -> dict[str, float]:
        """What objectives may bound."""
        histogram = HdrHistogram.of(np.array(self.durations) * 1000, self.failures)
        errors = self.failures / histogram.count if histogram.count else float("nan")
        rate = len(self.durations) / (time.monotonic() - self.began)
        return {**{name: figure_ms(histogram, name) for name in LATENCIES}, "errors": errors, "rate": rate}


def prepare(environment: Environment, **_: Any) -> None:
    """Read the objectives and the model's signature before the first user, and judge after the last one."""
    options, answers = environment.parsed_options, Answers()
    objectives = [parse_objective(text) for text in options.slo]
    # it is called with locust's own list of authorities
    RestUser.ssl_context_factory = staticmethod(lambda **_: ssl.create_default_context(cafile=options.ca_file))
    with (
        using_files(options.ca_file, None, None),
        RestClient(address_of(options.host.rstrip("/")), TIMEOUT_S) as client,
    ):
        inputs = client.metadata(options.model, options.model_version)["inputs"]
    environment.requests = make_requests(inputs, options.rows, {}, seed=1)
    environment.events.request.add_listener(answers.note)

    def finish(**_: Any) -> None:
        verdicts = judge(objectives, answers.figures())
        for verdict in verdicts:
            print(f"{verdict.outcome}: {verdict.objective.text} (observed: {verdict.observed})")
        if any(verdict.outcome != "pass" for verdict in verdicts):
            environment.process_exit_code = BREACH
        elif objectives:
            environment.process_exit_code = 0  # the objectives decide, and not a single failure

    environment.events.quitting.add_listener(finish)


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(prepare)


class RestUser(FastHttpUser):  # type: ignore[misc]  # locust's classes have no types here
    """Asks by V2 JSON over one connection."""

    wait_time = constant(0.01)
    insecure = False

    def on_start(self) -> None:
        """Encode the requests."""
        options = self.environment.parsed_options
        self._path = model_path(options.model, options.model_version) + "/infer"
        self._headers = {"content-type": "application/json", **authorization()}
        self._bodies = cycle([json.dumps(request).encode() for request in self.environment.requests])

    def infer(self) -> None:
        """One request."""
        self.client.post(self._path, data=next(self._bodies), headers=self._headers, name="rest")

    tasks: ClassVar = [infer]


class GrpcUser(User):  # type: ignore[misc]  # as above
    """Asks by gRPC, over one channel with a connection of its own; by nothing without --grpc-host."""

    wait_time = constant(0.01)

    def on_start(self) -> None:
        """Open the channel and encode the requests."""
        options = self.environment.parsed_options
        if not options.grpc_host:
            self.stop()
            return
        self._channel = self._open(options)
        self._infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(GRPC_METHOD)
        self._metadata = tuple(authorization().items())
        self._bodies = cycle([self._encode(request) for request in self.environment.requests])

    def _open(self, options: Any) -> grpc.Channel:
        apart = [("grpc.use_local_subchannel_pool", 1)]
        if not options.host.startswith(HTTPS):
            return grpc.insecure_channel(options.grpc_host, options=apart)
        roots = options.ca_file and options.ca_file.read_bytes()
        return grpc.secure_channel(options.grpc_host, grpc.ssl_channel_credentials(roots), options=apart)

    def _encode(self, request: Document) -> bytes:
        options = self.environment.parsed_options
        return to_message(options.model, options.model_version, request).SerializeToString()

    def infer(self) -> None:
        """One request."""
        began, size, failure = time.perf_counter(), 0, None
        try:
            size = len(self._infer(next(self._bodies), timeout=TIMEOUT_S, metadata=self._metadata))
        except grpc.RpcError as problem:
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
        if hasattr(self, "_channel"):
            self._channel.close()
