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

from loadtests.processes import penstock, tree

START_S = 60.0
CALL_S = 20.0
MODEL = "m"
CONTROL, CANARY = "1", "2"


class Gateway:
    """One gateway and whoever succeeds its control process; its home and its models lie in ``folder``."""

    def __init__(self, folder: Path, versions: Mapping[str, bytes], workers: int) -> None:
        for version, content in versions.items():
            file = folder / "models" / MODEL / version / "model.onnx"
            file.parent.mkdir(parents=True)
            file.write_bytes(content)
        self._folder = folder
        options = ["--workers", str(workers), "--ready-file", str(folder / "ready.json")]
        self._command = penstock(folder / "models", *options)
        self._seen: set[int] = set()
        self._process = self._started()

    def _started(self) -> "subprocess.Popen[bytes]":
        ready = self._folder / "ready.json"
        ready.unlink(missing_ok=True)
        kept = {key: text for key, text in os.environ.items() if not key.startswith("PENSTOCK_")}
        home = {"PENSTOCK_HOME": str(self._folder / "home"), "PENSTOCK_STOP__DRAIN_DELAY_SECONDS": "0.1"}
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**kept, **home}
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

    def admin(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """One call of the admin API: the status, and the document."""
        connection = http.client.HTTPConnection(self.ops, timeout=CALL_S)
        try:
            connection.request(method, f"/admin/v1/models/{MODEL}{path}", json.dumps(body) if body else None)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def freeze(self, seconds: float) -> None:
        """Stop the control process for a while."""
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def replace_leader(self) -> None:
        """Kill the control process, and start another that goes on with its workers."""
        self._process.kill()
        self._process.wait()
        self._process = self._started()

    def stop(self) -> None:
        """End it; what does not end by itself is killed."""
        self._seen |= set(tree(self._process.pid))
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        for pid in self._seen if self._process.poll() is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(10)
