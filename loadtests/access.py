"""Credentials for measurements: a gateway's home, the settings that accept API keys, and keys made by the owner's
socket.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ACCEPT_KEYS = {"PENSTOCK_AUTH__KEYS": "true"}
ANSWER_S = 60.0


@contextmanager
def set_environment(home: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """Have gateways that are started within use this home and these settings."""
    wanted = {"PENSTOCK_HOME": str(home), **settings}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def create_key(home: Path, name: str, quota: Mapping[str, float] | None = None) -> str:
    """Return a new key of the running gateway in this home, with which its models can be asked."""
    wanted = {"name": name, "roles": ["caller"], "quota": dict(quota or {})}
    key: str = ask_owner(home, "POST", "/admin/v1/keys", wanted)["key"]
    return key


def ask_owner(home: Path, method: str, path: str, values: Mapping[str, Any]) -> Any:
    """Return what the gateway in this home answers to its own user; raises RuntimeError if it refuses."""
    body = json.dumps(values).encode()
    head = f"{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_S)
        client.connect(str(home / "ops.sock"))
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    status, _, content = answer.partition(b"\r\n\r\n")
    if b" 20" not in status.partition(b"\r\n")[0]:
        raise RuntimeError(f"{method} {path} is refused: {answer[:300]!r}")
    return json.loads(content)
