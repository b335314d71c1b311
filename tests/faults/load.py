"""Callers that keep calling from threads, and write down how every call ended."""

import json
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

import grpc
import numpy as np

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.harness import PATIENCE_S, Server

CALL_SECONDS = PATIENCE_S
"""No call may take longer than this, whatever happens to the server."""

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}).encode()
ROW = np.array([1, 2, 3], np.float32).tobytes()


@dataclass(slots=True)
class Tally:
    """How calls ended: ``answered`` by code, ``lost`` by the error seen, and the longest of them (seconds)."""

    answered: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, code: str, lost: bool, seconds: float) -> None:
        """Write one call down."""
        with self.lock:
            (self.lost if lost else self.answered)[code] += 1
            self.longest = max(self.longest, seconds)


class Load:
    """Threads that call the model ``pair`` until told to stop; use it as a context.

    With ``patient`` gRPC callers wait for a connection; without, they fail as long as their channel backs off.
    """

    def __init__(
        self, server: Server, rest: int = 4, grpc_callers: int = 2, pause: float = 0.01, patient: bool = True
    ) -> None:
        self.rest, self.grpc = Tally(), Tally()
        self._stop = threading.Event()
        self._pause = pause
        self._patient = patient
        runs = [(self._call_rest, server.http)] * rest + [(self._call_grpc, server.grpc)] * grpc_callers
        self._threads = [threading.Thread(target=run, args=(address,)) for run, address in runs]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(CALL_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads), "a call hangs"

    def stop(self) -> None:
        """Let every caller finish its call and end."""
        self.__exit__()

    def _call_rest(self, address: str) -> None:
        with closing(HTTPConnection(address, timeout=CALL_SECONDS)) as connection:
            while not self._stop.wait(self._pause):
                began = time.monotonic()
                try:
                    connection.request("POST", "/v2/models/pair/infer", BODY)
                    answer = connection.getresponse()
                    answer.read()
                    self.rest.note(str(answer.status), lost=False, seconds=time.monotonic() - began)
                except (OSError, HTTPException) as error:
                    self.rest.note(type(error).__name__, lost=True, seconds=time.monotonic() - began)
                    connection.close()

    def _call_grpc(self, address: str) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
        ]
        message = pb.ModelInferRequest(model_name="pair", raw_input_contents=[ROW])
        message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
        with grpc.insecure_channel(address, options=options) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while not self._stop.wait(self._pause):
                began = time.monotonic()
                try:
                    stub.ModelInfer(message, timeout=CALL_SECONDS, wait_for_ready=self._patient)
                    self.grpc.note("OK", lost=False, seconds=time.monotonic() - began)
                except grpc.RpcError as error:
                    self.grpc.note(error.code().name, lost=True, seconds=time.monotonic() - began)
