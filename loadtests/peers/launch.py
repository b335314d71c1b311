"""Starts a foreign model server with one model, as its documentation says, and writes the ready file once it answers.

Each server has an environment of its own (see ``environments``) and runs as a child of this process, which ends it.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from types import FrameType

from loadtests.models import MODELS, BenchModel
from loadtests.peers.environments import python_of

_WAIT_S = 90.0


@dataclass(frozen=True, slots=True)
class Start:
    """How a server is started: the command, more environment, and the path that answers 200 once it is ready."""

    command: list[str]
    ready: str
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server runs: its Python, a folder of its own, its ports, and the threads of a session."""

    python: Path
    folder: Path
    http: int
    grpc: int
    spare: int
    threads: int

    @property
    def bin(self) -> Path:
        """The folder of its commands."""
        return self.python.parent


def _litserve(_: BenchModel, place: Place) -> Start:
    command = [str(place.python), "-m", "loadtests.peers.litserve_app", str(place.http)]
    return Start(command, "/health", {})


def _bentoml(_: BenchModel, place: Place) -> Start:
    where = ["--host", "127.0.0.1", "--port", str(place.http)]
    command = [str(place.bin / "bentoml"), "serve", "loadtests.peers.bentoml_app:Bench", *where]
    return Start(command, "/readyz", {"BENTOML_HOME": str(place.folder), "BENTOML_DO_NOT_TRACK": "True"})


def _kserve(_: BenchModel, place: Place) -> Start:
    command = [str(place.python), "-m", "loadtests.peers.kserve_app", str(place.http), str(place.grpc)]
    return Start(command, "/v2/health/ready", {})


def _mlserver(model: BenchModel, place: Place) -> Start:
    settings = {
        "host": "127.0.0.1",
        "http_port": place.http,
        "grpc_port": place.grpc,
        "metrics_port": place.spare,
        "parallel_workers": 0,
        "debug": False,
    }
    one = {"name": model.name, "implementation": "loadtests.peers.mlserver_app.Bench"}
    (place.folder / "settings.json").write_text(json.dumps(settings))
    (place.folder / "model-settings.json").write_text(json.dumps(one))
    return Start([str(place.bin / "mlserver"), "start", str(place.folder)], "/v2/health/ready", {})


def _triton(model: BenchModel, place: Place) -> Start:
    """The server's binary, with a model of its Python backend, which is the only one that comes with it."""
    (packages,) = (place.python.parent.parent / "lib").glob("python3*/site-packages")
    server = packages / "pytriton" / "tritonserver"
    stubs = server / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    backend = place.folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    shutil.copytree(stubs, backend, dirs_exist_ok=True)
    inside = place.folder / "models" / model.name
    (inside / "1").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("triton_model.py"), inside / "1" / "model.py")
    (inside / "config.pbtxt").write_text(_triton_config(model))
    ports = [f"--http-port={place.http}", f"--grpc-port={place.grpc}", "--allow-metrics=false"]
    where = [f"--model-repository={inside.parent}", f"--backend-directory={backend.parent}"]
    addresses = ["--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--log-verbose=0"]
    libraries = ":".join(map(str, [*packages.glob("nvidia_pytriton.libs"), Path(sys.base_prefix) / "lib"]))
    environment = {
        "LD_LIBRARY_PATH": libraries,
        "PYTHONPATH": f"{packages}:{Path.cwd()}",
        "PYTHONHOME": sys.base_prefix,
    }
    return Start([str(server / "bin" / "tritonserver"), *where, *ports, *addresses], "/v2/health/ready", environment)


def _triton_config(model: BenchModel) -> str:
    types = {"label": ("TYPE_INT64", "1"), "probabilities": ("TYPE_FP32", "2"), "logits": ("TYPE_FP32", "-1")}
    types |= dict.fromkeys(("embedding", "y"), ("TYPE_FP32", "-1"))
    outputs = [f'{{ name: "{name}" data_type: {types[name][0]} dims: [ {types[name][1]} ] }}' for name in model.outputs]
    dims = ", ".join(map(str, model.row))
    return dedent(
        f"""
        name: "{model.name}"
        backend: "python"
        max_batch_size: {model.max_join}
        input [ {{ name: "{model.input}" data_type: TYPE_FP32 dims: [ {dims} ] }} ]
        output [ {", ".join(outputs)} ]
        dynamic_batching {{ max_queue_delay_microseconds: 500 }}
        instance_group [ {{ count: 1 kind: KIND_CPU }} ]
        """
    )


_STARTS: dict[str, Callable[[BenchModel, Place], Start]] = {
    "litserve": _litserve,
    "bentoml": _bentoml,
    "kserve": _kserve,
    "mlserver": _mlserver,
    "triton": _triton,
}
PEERS = tuple(_STARTS)
"""Servers that can be started."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _is_answering(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def main() -> int:
    """Serve one model until a signal stops it."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.peers.launch", description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--threads", type=int, default=1, help="threads of the session")
    parser.add_argument("--ready-file", required=True, help="where to write the address once it answers")
    arguments = parser.parse_args()
    model = MODELS[arguments.model]
    with TemporaryDirectory(prefix="penstock-peer-") as folder:
        http_port, grpc_port, spare = (_free_port() for _ in range(3))
        place = Place(python_of(arguments.peer), Path(folder), http_port, grpc_port, spare, arguments.threads)
        start = _STARTS[arguments.peer](model, place)
        paths = os.pathsep.join([str(place.bin), os.environ["PATH"]])
        environment = {
            "PYTHONPATH": str(Path.cwd()),
            "PATH": paths,
            **_describe_server(model, arguments.threads),
            **start.environment,
        }
        process = subprocess.Popen(start.command, env={**os.environ, **environment}, start_new_session=True)
        try:
            return _accompany(process, start, place, Path(arguments.ready_file))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # some leave processes behind


def _describe_server(model: BenchModel, threads: int) -> dict[str, str]:
    return {"BENCH_MODEL": model.name, "BENCH_THREADS": str(threads), "BENCH_FILE": str(model.file)}


def _accompany(process: subprocess.Popen[bytes], start: Start, place: Place, ready_file: Path) -> int:
    def stop(_: int, __: FrameType | None) -> None:
        process.terminate()

    signal.signal(signal.SIGTERM, stop)
    until = time.monotonic() + _WAIT_S
    while not _is_answering(place.http, start.ready):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            return 1
        time.sleep(0.05)
    part = ready_file.with_suffix(".part")
    part.write_text(json.dumps({"http": f"127.0.0.1:{place.http}", "grpc": f"127.0.0.1:{place.grpc}"}))
    part.replace(ready_file)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
