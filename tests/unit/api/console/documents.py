"""Documents of the admin API that the pages show, with hostile texts wherever users may put some."""

from typing import Any

from tests.unit.api.admin.conftest import Client

HOSTILE = "<script>alert(1)</script>"
CHANGES = [
    {"seq": 1, "at": "T1", "actor": "ann", "action": "start", "reason": HOSTILE, "state": "running", "weight": 500},
    {"seq": 2, "at": "T2", "actor": "bob", "action": "roll_back", "reason": ""},
]
COMMON: dict[str, Any] = {
    "id": "t1",
    "model": "good",
    "revision": 3,
    "created_at": "T0",
    "created_by": HOSTILE,
    "reason": HOSTILE,
    "changes": CHANGES,
}
GUARD = {
    "verdict": "fail",
    "log_e": 6.25,
    "log_e_fail_at": 5.2983,
    "log_e_pass": 0.5,
    "log_e_pass_at": 2.9957,
    "effect": None,
    "n_canary": 321,
    "n_control": 654,
}
ROLLOUT = {
    **COMMON,
    "from": "1",
    "to": "2",
    "state": "rolled_back",
    "weight": 500,
    "progress": ["harm"],
    "warnings": [HOSTILE],
    "evidence": {"errors": GUARD, HOSTILE: {**GUARD, "verdict": "undecided", "effect": 0.5}},
}
ARM = {"weight": 5000, "requests": 9, "rewards": 4, "mean": 0.25, "low": 0.1, "high": 0.4}
EXPERIMENT = {
    **COMMON,
    "state": "paused",
    "best": None,
    "arms": {"1": ARM, "2": {**ARM, "rewards": 0, "mean": None}},
}
TENSOR = {"name": HOSTILE, "datatype": "FP32", "shape": [2], "data": [0.5, HOSTILE]}
SHADOW = {
    "mirrored": 10,
    "pairs": 8,
    "disagreements": 2,
    "max_abs_diff": 0.75,
    "mean_abs_diff": None,
    "samples": [
        {"id": HOSTILE, "version": "1", "outputs": [TENSOR], "shadow_outputs": [{**TENSOR, "data": list(range(999))}]},
        {"id": "r2", "version": "1", "trace_id": HOSTILE, "outputs": [{**TENSOR, "name": "y"}], "shadow_outputs": []},
    ],
}
LAST_MINUTE = {"share_basis_points": 9990, "requests_per_second": 12.5, "error_ratio": None, "p99_ms": 3.25}
ROUTE = {
    "split": {"1": 9995, "2": 5},
    "sticky": "header:x-user-id",
    "rules": [{"header": "x-canary", "equals": HOSTILE, "version": "2"}],
    "shadow": [{"version": "3", "percent": 12.5}],
    "stable": "1",
    "answers": "version 1 99.95 %",
    "trial": {"kind": "rollout", "id": "t1"},
}


def put_documents(client: Client) -> None:
    """Let the stand-ins of a client have these documents."""
    client.routes.routes["good"] = ROUTE
    client.routes.shadows["good"] = SHADOW
    client.recent.more["good"] = {"versions": {"1": LAST_MINUTE}}
    client.trials.trials["t1"] = ROLLOUT
    client.experiments.trials["t1"] = EXPERIMENT
