"""Evidence over time outlives its gateway: stopped in order, or killed."""

import signal
from pathlib import Path
from typing import Any

import pytest

from penstock.control.monitoring.drift.detection import FIRST_HISTORY_S
from tests import harness
from tests.harness import PATIENCE_S, Server, call, wait_until
from tests.integration.traffic.drive import GOOD, models
from tests.integration.traffic.test_monitor import csv, send

COLUMN = f"/admin/v1/models/m/monitor/column?name=f0&version={GOOD}"


def history_of(server: Server) -> dict[str, Any]:
    reply = server.admin("GET", COLUMN)
    found: dict[str, Any] = reply.json().get("history") or {"at": []} if reply.status == 200 else {"at": []}
    return found


def grow(server: Server, points: int, span_s: float = 0.0) -> dict[str, Any]:
    """Send rows until the line of a column has so many points, over so much time; the line."""

    def is_grown() -> bool:
        send(server, GOOD, 100, threads=1)
        at = history_of(server)["at"]
        return len(at) >= points and at[-1] - at[0] >= span_s

    wait_until(is_grown, PATIENCE_S, f"{points} points")
    return history_of(server)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_new_gateway_continues_the_line_of_the_one_before(tmp_path: Path, how: signal.Signals) -> None:
    folder = models(tmp_path / "models", GOOD)
    first = harness.launch(folder, tmp_path, "--workers", "1")
    try:
        assert call(first.ops, "PUT", f"/admin/v1/models/m/versions/{GOOD}/reference", csv()).status == 201
        before = grow(first, 4, FIRST_HISTORY_S * 1.5)
        if how is signal.SIGTERM:
            assert first.stop() == 0
    finally:
        first.kill()
    with harness.running(folder, tmp_path, "--workers", "1") as second:
        wait_until(lambda: len(history_of(second)["at"]) >= 2, PATIENCE_S, "the line of before")
        at = history_of(second)["at"]
        kept = [moment for moment in at if moment <= before["at"][-1]]
        assert kept == before["at"][: len(kept)]
        assert len(kept) == len(before["at"]) if how is signal.SIGTERM else len(kept) >= 2
        assert len(grow(second, len(at) + 1)["at"]) > len(at)  # and goes on
