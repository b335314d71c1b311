"""An event of the gateway, as sinks send it: the CloudEvent of a request for retraining."""

from typing import Any

RETRAINING_REQUESTED: dict[str, Any] = {
    "specversion": "1.0",
    "id": "ab" * 32,
    "source": "penstock",
    "type": "io.penstock.retraining.requested.v1",
    "subject": "models/m/versions/1",
    "time": "2026-11-21T10:00:00.000+00:00",
    "datacontenttype": "application/json",
    "sequence": 7,
    "data": {"model": "m", "version": "1", "rule": "ünd"},
}
