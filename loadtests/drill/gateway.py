"""A gateway of the drill: started on a folder of its own, asked by its admin API, frozen, killed and succeeded."""

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from loadtests.processes import list_tree, penstock

START_S = 60.0
CALL_S = 20.0
FREEZE_S = 3.0
MODEL = "m"
CONTROL, CANARY = "1", "2"


class Gateway:
    """One gateway and whoever succeeds its control process; its home lies in ``folder``. It serves the ``registry``, or
    without one the versions that are written into its folder."""

    def __init__(
        self, folder: Path, versions: Mapping[str, bytes], workers: int, registry: Mapping[str, str] | None = None
    ) -> None:
        for version, content in versions.items():
            file = folder / "models" / MODEL / version / "model.onnx"
            file.parent.mkdir(parents=True)
            file.write_bytes(content)
        folder.mkdir(exist_ok=True)
        self._folder, self._registry = folder, dict(registry or {})
        options = ["--workers", str(workers), "--ready-file", str(folder / "ready.json")]
        self._command = penstock(None if registry else folder / "models", *options)
        self._seen: set[int] = set()
        self._process = self._started()

    @property
    def pid(self) -> int:
        """Of the control process."""
        return self._process.pid

    @property
    def killed(self) -> bool:
        """Whether the control process has ended; its workers go on for a while."""
        return self._process.poll() is not None

    def _started(self) -> "subprocess.Popen[bytes]":
        ready = self._folder / "ready.json"
        ready.unlink(missing_ok=True)
        kept = {key: text for key, text in os.environ.items() if not key.startswith("PENSTOCK_")}
        home = {"PENSTOCK_HOME": str(self._folder / "home"), "PENSTOCK_STOP__DRAIN_DELAY_SECONDS": "0.1"}
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**kept, **home, **self._registry}
            )
        until = time.monotonic() + START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                raise RuntimeError(f"the gateway did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        facts = json.loads(ready.read_text())
        self.http, self.ops = str(facts["http"]), str(facts["ops"])
        self._seen |= {process.pid, *facts["workers"]}
        return process

    def admin(self, method: str, path: str, body: Mapping[str, Any] | bytes | None = None) -> tuple[int, Any]:
        """One call of the admin API about the model: the status, and the document."""
        return self._call(method, f"/models/{MODEL}{path}", body)

    def fleet(self) -> dict[str, Any]:
        """The fleet as this gateway knows it; ``asked`` is its own id in it."""
        status, document = self._call("GET", "/fleet")
        if status != 200:
            raise RuntimeError(f"the fleet cannot be read: {document}")
        return dict(document)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | bytes | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.ops, timeout=CALL_S)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body)
        try:
            connection.request(method, f"/admin/v1{path}", content)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def freeze(self, seconds: float) -> None:
        """Stop the control process for a while."""
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def kill_control(self) -> None:
        """Kill the control process; the workers go on."""
        self._process.kill()
        self._process.wait()

    def lose_leader(self, kill: bool) -> None:
        """Freeze the control process for a while; then, if asked to, kill it, and start another that goes on with its
        workers."""
        self.freeze(FREEZE_S)
        if kill:
            time.sleep(1.0)
            self.kill_control()
            self._process = self._started()

    def stop(self) -> None:
        """End it; what does not end by itself is killed."""
        if self.killed:
            self._kill_seen()
            return
        self._seen |= set(list_tree(self._process.pid))
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if not self.killed:
            self._kill_seen()
        self._process.wait(10)

    def _kill_seen(self) -> None:
        for pid in self._seen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
