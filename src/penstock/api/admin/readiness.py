"""The document of a gateway's readiness."""

from typing import Any

from penstock.control.reconcile.status import Readiness


def readiness_document(readiness: Readiness, is_reader: bool) -> dict[str, Any]:
    """Return a readiness as JSON values; only a reader learns the reason, which may contain names."""
    body: dict[str, Any] = {
        "ready": readiness.ready,
        "workers": {"ready": readiness.workers_ready, "configured": readiness.workers},
        "versions": dict(readiness.versions),
    }
    return {**body, "reason": readiness.reason} if readiness.reason and is_reader else body
