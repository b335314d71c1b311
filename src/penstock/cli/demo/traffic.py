"""The demo's traffic: callers, each with its own connection, that check every answer."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Protocol

import grpc

from penstock.cli.client import Document, model_path
from penstock.cli.demo.training import MODEL
from penstock.cli.grpc_client import to_message
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub

CALL_SECONDS = 5.0
ROLLOUT_PAUSE_SECONDS = 0.002
"""Between two requests of a caller in a rollout, which waits for the clock as well as for evidence: requests at full
speed would only take processor time from the gateway."""

HEADER_END = b"\r\n\r\n"


class WrongAnswer(Exception):
    """An answer was not the expected one."""


class Transport(Protocol):
    """A connection to the gateway that repeats a request and returns the version that answered."""

    def call(self) -> str:
        """Send a request and return the version that answered; raises ``WrongAnswer`` or the connection's error."""

    def close(self) -> None:
        """Close the connection."""


class RestTransport:
    """Keep-alive HTTP/1.1 with request bytes that are built once; calls take the requests in turn."""

    def __init__(self, address: str, version: str, *requests: Document) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), CALL_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = f"POST {model_path(MODEL, version)}/infer HTTP/1.1\r\nhost: {address}\r\n"
        self._requests = cycle([_with_head(first, json.dumps(request).encode()) for request in requests])

    def call(self) -> str:
        """See ``Transport``."""
        self._socket.sendall(next(self._requests))
        head, body = self._answer()
        if not head.startswith(b"HTTP/1.1 200 "):
            raise WrongAnswer(head.split(b"\r\n")[0].decode())
        version: str = json.loads(body)["model_version"]
        return version

    def close(self) -> None:
        """See ``Transport``."""
        self._socket.close()

    def _answer(self) -> tuple[bytes, bytes]:
        received = self._more()
        while HEADER_END not in received:
            received += self._more()
        head, _, body = received.partition(HEADER_END)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < int(length.partition(b":")[2]):
            body += self._more()
        return head, body

    def _more(self) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            raise WrongAnswer("the gateway closed the connection")
        return part


def _with_head(first: str, body: bytes) -> bytes:
    return f"{first}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class GrpcTransport:
    """gRPC with one channel and one message."""

    def __init__(self, address: str, version: str, request: Document) -> None:
        self._channel = grpc.insecure_channel(address)
        self._infer = GRPCInferenceServiceStub(self._channel).ModelInfer
        self._message = to_message(MODEL, version, request)

    def call(self) -> str:
        """See ``Transport``."""
        return self._infer(self._message, timeout=CALL_SECONDS).model_version

    def close(self) -> None:
        """See ``Transport``."""
        self._channel.close()


@dataclass(slots=True)
class CallingThread:
    """One thread that calls again and again, ``pause`` seconds (0: none) after each answer; other threads may read its
    results. ``expected`` "" is any version."""

    title: str
    protocol: str
    transport: Transport
    expected: str
    pause: float = 0.0
    times: list[float] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    problem: str = ""

    def run(self, stop: threading.Event) -> None:
        """Call until ``stop`` is set or a call fails."""
        try:
            while not stop.wait(self.pause):
                self._once()
        except (WrongAnswer, OSError, grpc.RpcError) as error:
            self.problem = f"{self.title}: {error}"
        finally:
            self.transport.close()

    def _once(self) -> None:
        began = time.perf_counter()
        version = self.transport.call()
        self.times.append(time.perf_counter() - began)
        self.versions[version] += 1
        if self.expected and version != self.expected:
            raise WrongAnswer(f"version {version} answered instead of {self.expected}")


def percentile_ms(times: list[float], share: float) -> float:
    """Return the quantile ``share`` of the times, in milliseconds; 0 without calls."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


def drive(callers: list[CallingThread], seconds: float, look: Callable[[float], object]) -> float:
    """Run all callers for a time and return the seconds it took.

    ``look`` is called a few times a second with the seconds passed; the run ends early when it returns True.

    Raises:
        WrongAnswer: a call failed or had an unexpected answer.
    """
    stop = threading.Event()
    threads = [threading.Thread(target=caller.run, args=(stop,), daemon=True) for caller in callers]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    try:
        while (passed := time.perf_counter() - began) < seconds and not any(caller.problem for caller in callers):
            if look(passed) is True:
                break
            time.sleep(0.2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(2 * CALL_SECONDS)
    passed = time.perf_counter() - began
    for caller in callers:
        if caller.problem:
            raise WrongAnswer(caller.problem)
    look(passed)
    return passed
