"""Events at the real things: Debian's Alertmanager and NATS server, and the official CloudEvents SDK."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nats
from cloudevents.http import from_http

from penstock.control.sinks import SinkContext
from penstock.control.sinks.plugins import send
from penstock.core.sinks import SinkOrigin, SinkSpec
from tests.events import RETRAINING_REQUESTED
from tests.harness import PATIENCE_S, call, wait_until
from tests.integration.traffic.test_retraining import receiving
from tests.ports import free_port

EVENT = {**RETRAINING_REQUESTED, "data": {"model": "m", "version": "1", "rule": "r"}}


@contextmanager
def process(folder: Path, *command: str) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        yield
    finally:
        running.terminate()
        running.wait(PATIENCE_S)


def reachable(address: str, path: str) -> bool:
    try:
        return call(address, "GET", path).status == 200
    except OSError:
        return False


def test_alertmanager_takes_an_event_as_an_alert(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    address = f"127.0.0.1:{free_port()}"
    options = (f"--web.listen-address={address}", "--cluster.listen-address=", f"--storage.path={tmp_path / 'data'}")
    with process(tmp_path, "prometheus-alertmanager", f"--config.file={tmp_path / 'config.yml'}", *options):
        wait_until(lambda: reachable(address, "/-/ready"), PATIENCE_S, "Alertmanager")
        for _ in range(2):
            send(SinkSpec("alertmanager", {"url": f"http://{address}"}, SinkOrigin.OWNER), EVENT, SinkContext(tmp_path))
        wait_until(lambda: bool(call(address, "GET", "/api/v2/alerts").json()), PATIENCE_S, "the alert")
        [alert] = call(address, "GET", "/api/v2/alerts").json()  # the same alert twice is one
        assert alert["labels"]["alertname"] == EVENT["type"]
        assert (alert["labels"]["model"], alert["labels"]["rule"]) == ("m", "r")


def test_a_stream_of_nats_keeps_an_event_once(tmp_path: Path) -> None:
    port = free_port()
    url = f"nats://127.0.0.1:{port}"
    spec, around = SinkSpec("nats", {"url": url, "subject": "penstock.m"}, SinkOrigin.OWNER), SinkContext(tmp_path)

    async def stream() -> None:
        client = await nats.connect(url, connect_timeout=PATIENCE_S)
        await client.jetstream().add_stream(name="events", subjects=["penstock.*"])
        await client.close()

    async def kept() -> list[bytes]:
        client = await nats.connect(url, connect_timeout=PATIENCE_S)
        found = await client.jetstream().subscribe("penstock.*", stream="events", ordered_consumer=True)
        messages = [await found.next_msg(timeout=PATIENCE_S)]
        with suppress(TimeoutError):
            messages.append(await found.next_msg(timeout=0.5))
        await client.close()
        return [message.data for message in messages]

    command = ("nats-server", "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(tmp_path / "jetstream"))
    with process(tmp_path, *command):

        def up() -> bool:
            try:
                asyncio.run(stream())
            except (nats.errors.Error, OSError):
                return False
            return True

        wait_until(up, PATIENCE_S, "NATS")
        for _ in range(2):
            send(spec, EVENT, around)
        [message] = asyncio.run(kept())
        assert json.loads(message) == EVENT


def test_the_official_sdk_reads_both_forms(tmp_path: Path) -> None:
    with receiving() as hook:
        for mode in ("structured", "binary"):
            spec = SinkSpec("webhook", {"url": hook.url, "mode": mode}, SinkOrigin.OWNER)
            send(spec, EVENT, SinkContext(tmp_path))
        for _, headers, body in hook.got:
            read = from_http(headers, body)
            assert read.get_data() == EVENT["data"]
            for name in ("id", "source", "type", "subject", "time", "specversion"):
                assert read[name] == EVENT[name]
