"""A real HAProxy for tests: it sends each request to the next server, and says which one answered."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.harness import PATIENCE_S, call, wait_until
from tests.ports import free_port

GATEWAY = "x-gateway"
"""The header of an answer that names the server it came from."""

SETTINGS = """
global
  maxconn 1000
defaults
  mode http
  timeout connect 30s
  timeout client 60s
  timeout server 60s
  timeout check 30s
  retries 3
  option redispatch 1
frontend f
  bind {address}
  default_backend b
backend b
  balance roundrobin
  option httpchk GET /v2/health/ready
  http-response set-header {header} %s
{servers}
"""


@contextmanager
def running(folder: Path, servers: Mapping[str, str]) -> Iterator[str]:
    """HAProxy in front of these servers' REST ports, which it asks whether they are ready; its address."""
    lines = [f"  server {name} {server} check inter 200ms fall 2 rise 1" for name, server in servers.items()]
    with started(folder, SETTINGS, "/v2/health/ready", header=GATEWAY, servers="\n".join(lines)) as address:
        yield address


@contextmanager
def started(folder: Path, settings: str, path: str, **values: str) -> Iterator[str]:
    """HAProxy with these settings, in which ``values`` and ``address`` are filled in, once a GET of ``path`` is
    answered with 200; its address."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    assert program, "install Debian's haproxy"
    address, config = f"127.0.0.1:{free_port()}", folder / "haproxy.cfg"
    config.write_text(settings.format(address=address, **values))
    process = subprocess.Popen([program, "-db", "-q", "-f", str(config)])
    try:
        wait_until(lambda: _answers(address, path), PATIENCE_S, "the proxy")
        yield address
    finally:
        process.kill()
        process.wait()


def _answers(address: str, path: str) -> bool:
    with suppress(OSError):
        return call(address, "GET", path).status == 200
    return False
