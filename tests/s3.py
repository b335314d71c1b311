"""A real S3 API server for tests (moto's), as a process of its own on loopback."""

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.harness import PATIENCE_S, wait_until
from tests.ports import free_port


@dataclass(slots=True)
class Bucket:
    """A bucket, and the environment to use it with."""

    port: int
    name: str = "models"
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to know."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """One plain call to the server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, {"authorization": "AWS key:secret"})
            answer = connection.getresponse()
            assert answer.status < 300, (answer.status, answer.read())
            return answer.read()
        finally:
            connection.close()


@contextmanager
def running() -> Iterator[Bucket]:
    """A server with one bucket for the time of a block."""
    bucket = Bucket(free_port())
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{bucket.port}'])"
    bucket.process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    )
    try:
        wait_until(lambda: _is_made(bucket), PATIENCE_S, "the S3 API server")
        yield bucket
    finally:
        bucket.process.kill()
        bucket.process.wait()


def _is_made(bucket: Bucket) -> bool:
    try:
        bucket.call("PUT", f"/{bucket.name}")
    except OSError:
        return False
    return True
