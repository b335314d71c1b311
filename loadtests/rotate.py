"""Replaces the certificate of a gateway again and again under load: no call may fail.

A gateway of its own serves with TLS, and looks at its files fifty times a second. Callers on new connections, by REST,
gRPC and to the ops port, and callers that keep their connection go on all the while. Each rotation writes another key
and certificate, and is over when the gateway says that it has taken them over.
"""

import argparse
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import grpc
import onnx
from onnx import TensorProto, helper

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub

LOOK_S = 0.02
CALL_S = 30.0
PAIRS = 4
BODY = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
PROGRAM = (
    f"from penstock.app import certificates; certificates.LOOK_S = {LOOK_S}; from penstock.cli import main; main()"
)
COUNTER = b'penstock_tls_certificate_reloads_total{result="loaded"} '


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--rotations", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)


def main(arguments: argparse.Namespace) -> int:
    """Run the test and print what was found."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-rotate-"))
    try:
        found = Rotation(folder, arguments.workers).run(arguments.rotations)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(found, indent=2))
    return 1 if found["failed"] or found["rotations"] < arguments.rotations else 0


class Rotation:
    """One run: the gateway, its certificates, and its callers."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder, self._workers = folder, workers
        self._pairs = [make_pair(folder, number) for number in range(PAIRS)]
        self._bundle = folder / "trusted.pem"
        self._bundle.write_text("".join(chain.read_text() for chain, _ in self._pairs))
        self._context = ssl.create_default_context(cafile=self._bundle)
        self._stop = threading.Event()
        self._calls: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._address: dict[str, Any] = {}

    def run(self, rotations: int) -> dict[str, Any]:
        """Rotate so often; the findings."""
        self._put(0)
        process = self._start()
        callers = [
            threading.Thread(target=self._repeat, args=(name, call)) for name, call in self._targets() for _ in range(2)
        ]
        try:
            for caller in callers:
                caller.start()
            began = time.monotonic()
            done = sum(self._rotate(number) for number in range(1, rotations + 1))
            seconds = time.monotonic() - began
            self._stop.set()
            for caller in callers:
                caller.join(CALL_S)
        finally:
            self._stop.set()
            process.terminate()
            process.wait(60)
        log = (self._folder / "log").read_text(errors="replace")
        return {
            "rotations": done,
            "seconds": round(seconds, 1),
            "calls": dict(self._calls),
            "failed": dict(self._failed),
            "log_lines_at_warning": sum(" WARNING " in line or " ERROR " in line for line in log.splitlines()),
            "tracebacks": log.count("Traceback"),
        }

    def _start(self) -> "subprocess.Popen[bytes]":
        ready, models = self._folder / "ready.json", self._folder / "models"
        write_model(models / "m" / "1" / "model.onnx")
        config = self._folder / "config.yaml"
        config.write_text(f"tls: {{certificate_file: {self._files[0]}, key_file: {self._files[1]}}}\n")
        command = [sys.executable, "-c", PROGRAM, "serve", str(models), "--config", str(config)]
        command += ["--workers", str(self._workers), "--ready-file", str(ready)]
        command += ["--http-port", "0", "--grpc-port", "0", "--ops-port", "0"]
        env = {**os.environ, "PENSTOCK_HOME": str(self._folder / "home"), "OPENBLAS_NUM_THREADS": "1"}
        with (self._folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        while not ready.exists():
            if process.poll() is not None:
                raise SystemExit((self._folder / "log").read_text())
            time.sleep(0.05)
        self._address = json.loads(ready.read_text())
        return process

    @property
    def _files(self) -> tuple[Path, Path]:
        return self._folder / "tls.crt", self._folder / "tls.key"

    def _put(self, number: int) -> None:
        for source, target in zip(self._pairs[number % PAIRS], self._files, strict=True):
            shutil.copy(source, target)

    def _rotate(self, number: int) -> bool:
        """Whether the gateway has taken the next pair over."""
        self._put(number)
        until = time.monotonic() + CALL_S
        while time.monotonic() < until:
            if self._loaded() >= number:
                return True
            time.sleep(LOOK_S / 2)
        return False

    def _loaded(self) -> int:
        text = self._get("ops", "/metrics")
        return int(float(text.partition(COUNTER)[2].partition(b"\n")[0]))

    # Callers.

    def _targets(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("rest on new connections", lambda: self._infer(self._connect("http"), close=True)),
            ("rest on one connection", self._kept()),
            ("grpc on new connections", self._call_grpc),
            ("ops on new connections", lambda: self._check(self._get("ops", "/readyz"))),
        ]

    def _repeat(self, name: str, call: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                call()
                self._calls[name] += 1
            except Exception as error:
                self._failed[f"{name}: {error!r}"] += 1

    def _connect(self, port: str) -> HTTPSConnection:
        return HTTPSConnection(self._address[port], timeout=CALL_S, context=self._context)

    def _get(self, port: str, path: str) -> bytes:
        connection = self._connect(port)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}")
        return body

    def _check(self, body: bytes) -> None:
        if not body:
            raise RuntimeError("an empty answer")

    def _kept(self) -> Callable[[], None]:
        kept: dict[int, HTTPSConnection] = {}

        def call() -> None:
            caller = threading.get_ident()
            if caller not in kept:
                kept[caller] = self._connect("http")
            self._infer(kept[caller], close=False)

        return call

    def _infer(self, connection: HTTPSConnection, *, close: bool) -> None:
        try:
            connection.request("POST", "/v2/models/m/infer", BODY)
            answer = connection.getresponse()
            if answer.status != 200 or b"outputs" not in answer.read():
                raise RuntimeError(f"status {answer.status}")
        finally:
            if close:
                connection.close()

    def _call_grpc(self) -> None:
        credentials = grpc.ssl_channel_credentials(self._bundle.read_bytes())
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(self._address["grpc"], credentials, options) as channel:
            GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=CALL_S)


def make_pair(folder: Path, number: int) -> tuple[Path, Path]:
    """A certificate for the loopback address that is its own authority, and its key."""
    chain, key = folder / f"{number}.pem", folder / f"{number}.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={number}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *kind, "-out", str(chain), "-keyout", str(key), *names]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


def write_model(path: Path) -> None:
    """A model that returns its input."""
    path.parent.mkdir(parents=True)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
