"""perf_analyzer, unmodified, with credentials over TLS: a key by REST, and a client certificate by gRPC.

It is a program in an old wheel of tritonclient, which `.ci/run` fetches with a library that it needs. Its option for
headers is for HTTP alone, so with gRPC a certificate says who it is.
"""

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import harness, zoo
from tests.certificates import Pair, issue, make_authority
from tests.harness import PATIENCE_S, Server
from tests.keys import create_key

WHEELS = Path(__file__).parents[2] / "build" / "perf_analyzer"
ROLES = ("caller", "viewer")
"""What it needs: it reads the statistics of the model before and after."""

BINDINGS = json.dumps([{"caller": "spiffe://x/bot", "role": role, "models": ["digits"]} for role in ROLES])


class Guarded(NamedTuple):
    """A gateway with TLS and authentication, and what its callers need."""

    server: Server
    program: Path
    libraries: Path
    authority: Pair
    clients: Pair
    key: str

    def measure(self, protocol: str, *options: str, model: str = "digits") -> subprocess.CompletedProcess[str]:
        """Let perf_analyzer send requests for a model."""
        address = self.server.http if protocol == "http" else self.server.grpc
        port = address.rpartition(":")[2]
        url = f"https://localhost:{port}" if protocol == "http" else f"localhost:{port}"
        shape = ["--shape", "x:3", "-b", "2", "--request-count", "50", "--concurrency-range", "2"]
        command = [str(self.program), "-m", model, "-u", url, "-i", protocol, *shape, *options]
        return subprocess.run(
            command,
            env={**os.environ, "LD_LIBRARY_PATH": str(self.libraries)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """perf_analyzer out of its wheel; skips where it cannot be had."""
    wheels = sorted(WHEELS.glob("*.whl"))
    if len(wheels) != 2:
        pytest.skip("perf_analyzer was not fetched (.ci/run does it)")
    folder = tmp_path_factory.mktemp("perf_analyzer")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            wanted = [name for name in archive.namelist() if re.search(r"/perf_analyzer$|/libcudart\.so\.12$", name)]
            for name in wanted:
                (folder / Path(name).name).write_bytes(archive.read(name))
    found = folder / "perf_analyzer"
    found.chmod(0o700)
    missing = re.findall(r"(\S+) => not found", _run("ldd", str(found), LD_LIBRARY_PATH=str(folder)))
    if missing or not shutil.which("ldd"):
        pytest.skip(f"perf_analyzer needs libraries that are not installed: {', '.join(missing)}")
    return found


def _run(*command: str, **env: str) -> str:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority, clients = make_authority(folder), make_authority(folder, "clients")
    chain = issue(authority, folder, "server")
    for name in ("digits", "other"):
        zoo.place(folder / "models", name, {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    env = {
        "PENSTOCK_TLS__CERTIFICATE_FILE": str(chain.certificate),
        "PENSTOCK_TLS__KEY_FILE": str(chain.key),
        "PENSTOCK_AUTH__KEYS": "true",
        "PENSTOCK_AUTH__MTLS__CLIENT_CA": str(clients.certificate),
        "PENSTOCK_AUTH__BINDINGS": BINDINGS,
    }
    with harness.running(folder / "models", folder / "run", "--workers", "1", env=env) as server:
        key = create_key(folder / "run", "bot", *ROLES, models=["digits"])
        yield Guarded(server, program, program.parent, authority, clients, key)


@pytest.fixture(scope="module")
def certificate(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return issue(guarded.clients, tmp_path_factory.mktemp("client"), "bot", ["URI:spiffe://x/bot"])


def throughput(done: subprocess.CompletedProcess[str]) -> float:
    """The measured inferences a second."""
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"throughput: ([\d.]+) infer/sec", done.stdout, re.IGNORECASE)
    assert found, done.stdout
    return float(found[1])


def test_by_rest_with_a_key(guarded: Guarded) -> None:
    trusted = ["--ssl-https-ca-certificates-file", str(guarded.authority.certificate)]
    bearer = ["-H", f"authorization: Bearer {guarded.key}"]
    assert throughput(guarded.measure("http", *trusted, *bearer)) > 0
    for options in (trusted, [*trusted, "-H", "authorization: Bearer pk_wrong"], bearer):
        assert guarded.measure("http", *options).returncode != 0
    assert guarded.measure("http", *trusted, *bearer, model="other").returncode != 0


def test_by_grpc_with_a_client_certificate(guarded: Guarded, certificate: Pair) -> None:
    trusted = [
        "--ssl-grpc-use-ssl",
        "true",
        "--ssl-grpc-root-certifications-file",
        str(guarded.authority.certificate),
    ]
    identified = [
        "--ssl-grpc-private-key-file",
        str(certificate.key),
        "--ssl-grpc-certificate-chain-file",
        str(certificate.certificate),
    ]
    assert throughput(guarded.measure("grpc", *trusted, *identified)) > 0
    assert guarded.measure("grpc", *trusted).returncode != 0
    assert guarded.measure("grpc", *trusted, *identified, model="other").returncode != 0
