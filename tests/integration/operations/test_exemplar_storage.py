"""A real Prometheus with exemplar storage keeps the exemplars of a gateway, and finds the trace of a slow request."""

import time
import urllib.parse
from functools import partial
from pathlib import Path
from typing import Any

from tests import harness
from tests.harness import PATIENCE_S, call, wait_until
from tests.integration.traffic.test_prometheus import prometheus
from tests.otlp import receiving
from tests.zoo import place, versioned

TRACE = "0af7651916cd43dd8448eb211c80319c"
BODY: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}


def test_prometheus_stores_the_exemplars_of_latencies(tmp_path: Path) -> None:
    place(tmp_path / "models", "m", {"1": versioned(1)})
    with receiving() as receiver:
        env = {"PENSTOCK_TRACING__OTLP_ENDPOINT": receiver.url, "PENSTOCK_TRACING__RATIO": "0"}
        with (
            harness.running(tmp_path / "models", tmp_path, env=env) as server,
            prometheus(tmp_path, [server], options=("--enable-feature=exemplar-storage",)) as address,
        ):
            traceparent = f"00-{TRACE}-00f067aa0ba902b7-01"
            began = time.time()
            assert server.rest("POST", "/v2/models/m/infer", BODY, {"traceparent": traceparent}).status == 200
            found: dict[str, list[Any]] = {}

            def stored(name: str) -> bool:
                query = {"query": f"penstock_{name}_duration_seconds_bucket", "start": began - 60, "end": began + 600}
                try:
                    answer = call(address, "GET", f"/api/v1/query_exemplars?{urllib.parse.urlencode(query)}")
                except OSError:
                    return False
                data = answer.json()["data"] if answer.status == 200 else []
                found[name] = [(item["seriesLabels"], one) for item in data for one in item["exemplars"]]
                return any(one["labels"].get("trace_id") == TRACE for _, one in found[name])

            for name in ("request", "stage"):
                wait_until(partial(stored, name), PATIENCE_S, lambda: f"stored: {found}")
            [(series, exemplar)] = [item for item in found["request"] if item[1]["labels"]["trace_id"] == TRACE]
            assert (series["model"], series["version"], series["protocol"]) == ("m", "1", "rest")
            assert 0 < float(exemplar["value"]) <= float(series["le"])
            assert {series["stage"] for series, _ in found["stage"]} == {"decode", "queue", "run", "encode"}
