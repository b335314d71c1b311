"""Sends events to sinks: each kind is one small function that returns once the other side has it, and blocks.

Addresses, tokens and commands come from a model's policy. Files lie below the gateway's home unless the gateway only
listens to this machine, whose user then decides; the same holds for commands.
"""

import asyncio
import hashlib
import hmac
import http.client
import json
import logging
import os
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from penstock.core.sinks import FIELDS, SinkSpec
from penstock.registry.records import Document

log = logging.getLogger("penstock.control")

GROUP = "penstock.sinks"
"""The entry points that other packages bring sinks by."""

WAIT_S = 10.0
COMMAND_S = 600.0
MOST_TOLD = 2000
STRUCTURED = "application/cloudevents+json; charset=utf-8"
GONE = 410
MULTIPLE_CHOICES = 300
TELLS_LATER = (429, 503)


class SinkFault(Exception):
    """A sink does not have an event; ``after_s`` is when it wants to be asked again, ``final`` that it never does."""

    def __init__(self, reason: str, after_s: float = 0.0, final: bool = False) -> None:
        super().__init__(reason[:MOST_TOLD])
        self.after_s = after_s
        self.final = final


class Commands:
    """The commands that run now, so that they end with the gateway."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._over = False

    @contextmanager
    def running(self, process: "subprocess.Popen[bytes]") -> Iterator[None]:
        """While this one runs."""
        with self._lock:
            self._running.add(process.pid)
            over = self._over
        if over:
            _kill(process.pid)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(process.pid)

    def end(self) -> None:
        """End them all, and those that would still begin."""
        with self._lock:
            self._over = True
            for pid in self._running:
                _kill(pid)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What sinks need of the gateway: its home, whether paths and commands of a policy are its own user's, and the rows
    that were captured of an event's version, as a Parquet file (None without); and the commands that run."""

    home: Path
    trusted: bool
    rows: Callable[[Document, Path], Path | None] = lambda _event, _folder: None
    commands: Commands = field(default_factory=Commands)


def send(spec: SinkSpec, event: Document, around: SinkContext) -> None:
    """Send one event.

    Raises:
        SinkFault: it did not arrive, or nobody knows whether it did.
    """
    _SENDERS[spec.kind](spec.values, event, around)


def ask_webhook(values: Mapping[str, Any], event: Document, around: SinkContext, wait_s: float) -> int:
    """The status that a webhook answers to an event; each wait for it takes ``wait_s`` at most. Blocks.

    Raises:
        SinkFault: it does not answer, or its secret cannot be read.
    """
    return _exchange(values["url"], *_webhook_message(values, event, around), wait_s)[0]


def _webhook(values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
    _post(values["url"], *_webhook_message(values, event, around))


def _webhook_message(values: Mapping[str, Any], event: Document, around: SinkContext) -> tuple[bytes, dict[str, str]]:
    """The body that a webhook gets, and its headers, with a signature where a secret is stated."""
    headers = {"content-type": STRUCTURED}
    body = _json(event)
    if values.get("mode") == "binary":
        body = _json(event["data"])
        told = {key: value for key, value in event.items() if key not in ("data", "datacontenttype")}
        headers = {f"ce-{key}": quote(str(value), safe=" :/.+-_") for key, value in told.items()}
        headers["content-type"] = "application/json"
    if "secret_file" in values:
        secret = _read(values["secret_file"], around)
        headers["penstock-signature"] = f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"
    return body, headers


def _file(values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
    path = _path(values["path"], around)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(_json(event) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SinkFault(f"the file cannot be written: {error.strerror}") from None


def _command(values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
    if not around.trusted:
        raise SinkFault("commands are run only where the gateway listens to its own machine alone", final=True)
    folder = around.home / "retraining" / str(event["id"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = folder / "event.json"
    told.write_bytes(_json(event))
    rows = around.rows(event, folder)
    environment = {**os.environ, "PENSTOCK_EVENT": str(told), "PENSTOCK_MODEL": str(event["data"].get("model", ""))}
    if rows is not None:
        environment["PENSTOCK_ROWS"] = str(rows)
    try:
        process = subprocess.Popen(
            list(values["argv"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise SinkFault(f"the command cannot be started: {error.strerror}") from None
    try:
        with around.commands.running(process):
            output, _ = process.communicate(_json(event), timeout=float(values.get("timeout_seconds", COMMAND_S)))
    except subprocess.TimeoutExpired:
        _kill(process.pid)
        output, _ = process.communicate()
        (folder / "output.txt").write_bytes(output)
        raise SinkFault("the command took too long and was ended") from None
    (folder / "output.txt").write_bytes(output)
    if process.returncode:
        last = output.decode(errors="replace").strip().splitlines()[-1:]
        raise SinkFault(f"the command ended with {process.returncode}: {''.join(last)}")


def _airflow(values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
    """Triggers a DAG run of Airflow's REST API; its id is the event's, so that 409 means it is there already."""
    body: dict[str, Any] = {"dag_run_id": f"penstock-{event['id'][:32]}", "conf": event}
    newer = values.get("api", "v2") == "v2"
    if newer:
        body["logical_date"] = None  # required, though it may be null
    path = f"/api/{'v2' if newer else 'v1'}/dags/{quote(values['dag'], safe='')}/dagRuns"
    _post(values["url"].rstrip("/") + path, _json(body), _bearer(values, around), done=(409,))


def _prefect(values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
    body = {"parameters": {"event": event}, "idempotency_key": event["id"]}
    path = f"/deployments/{quote(values['deployment'], safe='')}/create_flow_run"
    _post(values["url"].rstrip("/") + path, _json(body), _bearer(values, around))


def _github(values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
    """A repository_dispatch event; its payload has one top-level key of the ten that are allowed."""
    body = {"event_type": str(event["type"])[:100], "client_payload": {"event": event}}
    owner, name = values["repository"].split("/")
    url = values.get("url", "https://api.github.com").rstrip("/")
    headers = {**_bearer(values, around), "accept": "application/vnd.github+json"}
    _post(f"{url}/repos/{quote(owner, safe='')}/{quote(name, safe='')}/dispatches", _json(body), headers)


def _argo(values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
    """A call of a webhook event source of Argo Events, whose body a sensor's triggers take apart."""
    _post(values["url"], _json(event), _bearer(values, around))


def _kubeflow(values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
    """A run of a Kubeflow pipeline (API v2beta1), which has no key against repeats: its name holds the event's id."""
    reference = {"pipeline_id": values["pipeline"]}
    if "version" in values:
        reference["pipeline_version_id"] = values["version"]
    body: dict[str, Any] = {
        "display_name": f"penstock-{event['id'][:32]}",
        "pipeline_version_reference": reference,
        "runtime_config": {"parameters": {"event": json.dumps(event)}},
    }
    if "experiment" in values:
        body["experiment_id"] = values["experiment"]
    _post(values["url"].rstrip("/") + "/apis/v2beta1/runs", _json(body), _bearer(values, around))


def _nats(values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
    """A message of a JetStream stream, acknowledged by it; the event's id as message id lets it drop repeats."""
    try:
        import nats  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise SinkFault("NATS needs the extra 'nats': pip install 'penstock[nats]'", final=True) from None
    token = _read(values["token_file"], around).decode(errors="replace") if "token_file" in values else None

    async def publish() -> None:
        client = await nats.connect(values["url"], token=token, connect_timeout=WAIT_S, allow_reconnect=False)
        try:
            headers = {"Nats-Msg-Id": str(event["id"]), "content-type": STRUCTURED}
            await client.jetstream(timeout=WAIT_S).publish(values["subject"], _json(event), headers=headers)
        finally:
            await client.close()

    try:
        asyncio.run(publish())
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise SinkFault(f"it does not take the event: {type(error).__name__}") from None


def _alertmanager(values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
    """One alert of Alertmanager's API v2, named by the event's type; the same labels are the same alert."""
    data = event["data"]
    labels = {"alertname": str(event["type"]), "model": str(data.get("model", "")), "rule": str(data.get("rule", ""))}
    labels |= {"version": str(data.get("version", "")), "event": str(event["id"])}
    alert = {"labels": labels, "annotations": {"evidence": json.dumps(data)[:8000]}, "startsAt": event["time"]}
    _post(values["url"].rstrip("/") + "/api/v2/alerts", _json([alert]), _bearer(values, around))


class Sink(Protocol):
    """A sink of another package, named as its entry point in the group ``penstock.sinks``."""

    fields: Mapping[str, tuple[type, bool]]
    """Its settings, as ``core.sinks.FIELDS`` has them."""

    def send(self, values: Mapping[str, Any], event: Document, around: SinkContext) -> None:
        """Send one event, and return once the other side has it; raises ``SinkFault``. Any thread may call it."""


def load_others() -> None:
    """Make the sinks of other packages known; what cannot be loaded is told in the log and left out."""
    for entry in metadata.entry_points(group=GROUP):
        if entry.name in _SENDERS:
            continue  # a package cannot take the place of what is here
        try:
            found: Sink = entry.load()()
            fields, send_it = dict(found.fields), found.send
        except Exception:
            log.exception("the sink '%s' cannot be loaded", entry.name)
            continue
        FIELDS[entry.name] = fields
        _SENDERS[entry.name] = send_it


_SENDERS: dict[str, Callable[[Mapping[str, Any], Document, SinkContext], None]] = {
    "webhook": _webhook,
    "file": _file,
    "command": _command,
    "airflow": _airflow,
    "prefect": _prefect,
    "github": _github,
    "argo": _argo,
    "kubeflow": _kubeflow,
    "nats": _nats,
    "alertmanager": _alertmanager,
}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An event goes where the policy says and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, body: bytes, headers: Mapping[str, str], done: tuple[int, ...] = ()) -> None:
    status, retry_after = _exchange(url, body, headers, WAIT_S)
    if status < MULTIPLE_CHOICES or status in done:
        return
    after = retry_after if status in TELLS_LATER else ""
    raise SinkFault(f"it answered {status}", float(after) if after.isdecimal() else 0.0, status == GONE)


def _exchange(url: str, body: bytes, headers: Mapping[str, str], wait_s: float) -> tuple[int, str]:
    """The status of an answer and its ``Retry-After``; raises ``SinkFault`` where there is none."""
    stated = {"content-type": "application/json", "user-agent": "penstock", **headers}
    request = urllib.request.Request(url, body, stated, method="POST")  # noqa: S310 - http or https by the policy's check
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=wait_s) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, error.headers.get("retry-after", "")
    except TimeoutError:
        raise SinkFault(f"it does not answer within {wait_s:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SinkFault(f"it does not answer: {getattr(error, 'reason', None) or type(error).__name__}") from None


def _bearer(values: Mapping[str, Any], around: SinkContext) -> dict[str, str]:
    if "token_file" not in values:
        return {}
    return {"authorization": f"Bearer {_read(values['token_file'], around).decode(errors='replace')}"}


def _read(stated: str, around: SinkContext) -> bytes:
    try:
        return _path(stated, around).read_bytes().strip()
    except OSError as error:
        raise SinkFault(f"the secret cannot be read: {error.strerror}") from None


def _path(stated: str, around: SinkContext) -> Path:
    path = (around.home / stated).resolve()
    if not around.trusted and not path.is_relative_to(around.home.resolve()):
        raise SinkFault("the path leads out of the gateway's home", final=True)
    return path


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
