"""Documents of the monitor, of retraining and of the timeline, as their services return them; names are hostile."""

from typing import Any

HOSTILE = '<script>alert("x")</script>'

Document = dict[str, Any]


def column_document(name: str = "age", state: str = "drift") -> Document:
    """Return the document of a column of two bins."""
    return {
        "name": name,
        "kind": "numeric",
        "state": state,
        "since": 1_764_500_000.0 if state == "drift" else None,
        "log_e": 12.5,
        "psi": 0.31,
        "psi_threshold": 0.05,
        "js": 0.1,
        "hellinger": 0.1,
        "ks": 0.2,
        "ks_threshold": 0.04,
        "wasserstein": 0.8,
        "chi_square": 90.0,
        "chi_square_threshold": 30.0,
        "rows": 400,
        "missing": 0,
        "out_of_range": 3,
        "infinite": 0,
        "unseen": 0,
        "reference_error": 0.0,
        "moved": [{"bin": "3..4", "change": 0.25}],
        "bins": ["1..3", "3..4"],
        "counts": [100, 300],
        "reference_counts": [5000, 5000],
    }


def monitor_document(model: str, version: str = "1") -> Document:
    """Return the document of a version with two columns, of which one drifts."""
    stage: Document = {"count": 400, "p50": 0.2, "p90": 0.4, "p99": 1.5, "p999": 2.0}
    return {
        "model": model,
        "version": version,
        "answers": {version: 1.0},
        "scope": "gateway",
        "problem": "",
        "reference": {"source": "training", "digest": "sha256:aa", "rows": 10_000, "small": False},
        "window": {"seconds": 300.0, "rows": 400},
        "columns": {"all": 30, "drifting": 1, "shown": 2},
        "log_e_threshold": 11.7,
        "features": [column_document(), column_document(HOSTILE, "ok")],
        "outputs": [],
        "joint": None,
        "slices": {},
        "alarms": 1,
        "quality": {
            "state": "violated",
            "rows": 400,
            "violations": {"missing": 9, "out_of_range": 3},
            "violated": [{"name": HOSTILE, "kind": "missing", "since": 1.0, "rates": {"missing": 0.02}}],
            "odd_requests": 0,
        },
        "latency": {**stage, "stages": {"decode": stage, "run": stage}},
        "performance": {
            "labels": 50,
            "windowed": {"accuracy": 0.91},
            "estimated": {"accuracy": 0.88},
            "delay": {"labels": 50, "p50_seconds": 3.0, "p90_seconds": 9.0, "p99_seconds": 9.0, "longest_seconds": 9.0},
        },
    }


def column_view(model: str, version: str | None, name: str, scope: str) -> Document:
    """Return a column with its evidence over time."""
    return {
        "model": model,
        "version": version or "1",
        "name": name,
        "scope": scope,
        "column": column_document(name),
        "log_e_threshold": 11.7,
        "history": {"step_seconds": 5.0, "at": [1.0, 6.0], "log_e": [0.5, 12.5], "psi": [0.01, 0.31]},
        "moments": {"mean": 1.0, "std": 2.0},
        "slices": {},
        "rates": None,
        "reference_rates": None,
    }


def retraining_document(model: str) -> Document:
    """Return a rule that fires, a request, a refused candidate and a dead delivery."""
    rule: Document = {
        "name": HOSTILE,
        "when": {"drift": {}},
        "until": None,
        "sends": "retraining.requested.v1",
        "sinks": ["hook"],
    }
    rule |= {"for_seconds": 0.0, "cooldown_seconds": 60.0, "dry_run": False, "state": "firing", "since": 1.0}
    rule |= {"asked": 2.0, "cools_until": 62.0, "times": 1, "outcome": "requested", "holds": True, "evidence": []}
    candidate: Document = {
        "version": "2",
        "against": "1",
        "state": "refused",
        "reasons": [HOSTILE],
        "exam": None,
        "rows": None,
    }
    delivery: Document = {
        "event": "e1",
        "sink": "hook",
        "state": "dead",
        "attempts": 16,
        "error": HOSTILE,
        "created": 2.0,
    }
    return {
        "model": model,
        "rules": [rule],
        "requests": [2.0],
        "limits": {"budget_per_day": 24, "timeout_seconds": 86_400.0, "approval": True},
        "in_flight": {"version": "1", "since": 2.0, "event": "e1"},
        "failed": None,
        "candidates": [candidate],
        "deliveries": [{**delivery, "due": None, "type": "io.penstock.retraining.requested.v1", "sequence": 1}],
    }


def timeline_entries() -> list[Document]:
    """Return an event and a change."""
    shared: Document = {"at": "2026-11-30T07:00:00.000+00:00", "model": "good", "subject": "models/good/versions/1"}
    event: Document = {
        "source": "event",
        "seq": 2,
        "kind": "drift.detected.v1",
        "person": None,
        "reason": None,
        "id": "e1",
    }
    change: Document = {"source": "audit", "seq": 9, "kind": "route.set", "person": HOSTILE, "reason": HOSTILE}
    changes = [
        {"path": "split.1", "before": 10_000, "after": 9_000},
        {"path": "sticky", "after": HOSTILE},
        {"path": "record", "before": "aa", "after": "bb"},
        {"path": "", "more": 3},
    ]
    return [{**shared, **event, "data": {"message": HOSTILE}}, {**shared, **change, "changes": changes}]
