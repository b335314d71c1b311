"""The code of the guide that checks webhooks takes what the gateway signs, and nothing else."""

import re
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from penstock.control.sinks import SinkContext, webhook
from penstock.control.sinks.secret_store import SecretSource, SecretStore
from penstock.core.secrets import Secret
from tests.events import RETRAINING_REQUESTED

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "write-a-sink.md"
NOW = 1_800_000_000
NEW, OLD = b"n" * 32, b"o" * 24
EVENT = RETRAINING_REQUESTED
Verify = Callable[..., dict[str, Any] | None]


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """The guide's function, for a receiver that knows the old key."""
    code = re.search(r'```python title="verify.py"\n(.*?)```', GUIDE.read_text(), re.DOTALL)
    assert code
    (tmp_path / "hook.key").write_bytes(OLD + b"\n")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code[1], found)
    read: Verify = found["read_event"]
    return read


def signed(tmp_path: Path, secret: list[str], mode: str = "structured", at: float = NOW) -> tuple[Message, bytes]:
    """A request as the gateway makes it; names of headers have any case, as in HTTP."""
    sources = {name: SecretSource(value=Secret(name, key)) for name, key in (("new", NEW), ("old", OLD))}
    context = SinkContext(tmp_path, secrets=SecretStore(sources), clock=lambda: at)
    body, headers = webhook._make_message({"secret": secret, "mode": mode}, EVENT, context)
    message = Message()
    for name, value in headers.items():
        message[name.title()] = value
    return message, body


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize("secret", [["old"], ["new", "old"], ["old", "new"]])
def test_what_is_signed_is_read(verify: Verify, tmp_path: Path, mode: str, secret: list[str]) -> None:
    event = verify(*signed(tmp_path, secret, mode), now=NOW)
    assert event is not None
    assert (event["id"], event["type"], event["data"]) == (EVENT["id"], EVENT["type"], EVENT["data"])


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_what_is_changed_is_refused(verify: Verify, tmp_path: Path, mode: str) -> None:
    headers, body = signed(tmp_path, ["old"], mode)
    changed = [name for name in headers if name.lower().startswith(("ce-", "webhook-"))]
    assert len(changed) == (3 if mode == "structured" else 10)
    for name in changed:
        for value in ("", "0", headers[name] + "0"):
            other, _ = signed(tmp_path, ["old"], mode)
            other.replace_header(name, value)
            assert verify(other, body, now=NOW) is None, (name, value)
    assert verify(headers, body + b" ", now=NOW) is None
    headers["ce-more"] = "x"
    assert verify(headers, body, now=NOW) is None or mode == "structured"
    assert verify(*signed(tmp_path, ["new"], mode), now=NOW) is None


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_what_is_old_or_of_the_future_is_refused(verify: Verify, tmp_path: Path, mode: str) -> None:
    request = signed(tmp_path, ["old"], mode)
    assert verify(*request, now=NOW + 299) is not None
    assert verify(*request, now=NOW + 360) is None
    assert verify(*request, now=NOW - 360) is None


def test_one_form_does_not_pass_as_the_other(verify: Verify, tmp_path: Path) -> None:
    headers, body = signed(tmp_path, ["old"])
    headers.replace_header("content-type", "application/json")
    assert verify(headers, body, now=NOW) is None
    headers, _ = signed(tmp_path, ["old"], "binary")
    assert verify(headers, body, now=NOW) is None
    assert verify(Message(), body, now=NOW) is None
