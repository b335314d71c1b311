"""Owner-only settings: every setting of a policy and of a rollout is known as one, or as none."""

from typing import Any

import pytest

from penstock.core import policies
from penstock.core.access.callers import ANONYMOUS, OWNER, Caller, CallerKind
from penstock.core.access.ops_endpoints import OPS
from penstock.core.access.permissions import ROLES, Permission, grants_of
from penstock.core.errors import Unauthorised
from penstock.core.owner_only import (
    LARGER,
    MASKS,
    POLICY_SECTIONS,
    QUERYING_GUARDS,
    RETRAINING,
    STEP,
    SettingRule,
    changed_controls,
    owner_only_of_rollout,
    owner_only_settings,
    refuse_relaxing,
    refuse_unauthorised,
    refuse_unproven,
)
from penstock.core.rollouts import gates
from penstock.core.rollouts.guard_spec import NAMES, limit_word
from penstock.core.sinks import FIELDS
from penstock.core.triggers import parsing

SETTINGS: dict[type, Any] = {str: "http://h.example/x", list: ["a"], float: 1.0, dict: {}}


def test_every_section_and_setting_is_classified() -> None:
    assert set(POLICY_SECTIONS) == {"monitor", "capture", "reason", *policies.RULES}
    assert set(RETRAINING) == {*parsing._LIMITS, "auto_rollout", "gates"}
    assert {*LARGER, *MASKS} == {*policies._CAPTURE, "mask", "mask_patterns"}
    rules = {name for name, rule in POLICY_SECTIONS.items() if rule is SettingRule.OWN_RULES}
    assert rules == {"capture", "sinks", "retraining"}
    assert set(STEP) == set(gates._STEP_FIELDS)
    assert {name for name in NAMES if limit_word(name) is None} == QUERYING_GUARDS


@pytest.mark.parametrize("kind", FIELDS)
def test_every_kind_of_sink_is_owner_only(kind: str) -> None:
    sink = {kind: {name: SETTINGS.get(wanted, "name") for name, (wanted, _) in FIELDS[kind].items()}}
    assert owner_only_settings({"sinks": {"s": sink}}, {}) == ["sinks.s"]
    assert owner_only_settings({"sinks": {"s": sink}}, {"sinks": {"s": sink}}) == []
    for name in sink[kind]:
        changed = {kind: {**sink[kind], name: "other"}}
        assert owner_only_settings({"sinks": {"s": changed}}, {"sinks": {"s": sink}}) == ["sinks.s"], name


@pytest.mark.parametrize(
    ("policy", "stored", "paths"),
    [
        ({"capture": {"sample": 0.1}}, {}, ["capture.sample"]),
        ({"capture": {"sample": 0.1}}, {"capture": {"sample": 0.1}}, []),
        ({"capture": {"sample": 0.1}}, {"capture": {"sample": 0.5}}, []),
        ({"capture": {"sample": 0.0}}, {}, []),
        ({"capture": {"sample": 0.1}}, {"capture": {"sample": 0.1, "mask": ["a"]}}, ["capture.mask"]),
        ({"capture": {"sample": 0.0}}, {"capture": {"sample": 0.1, "mask": ["a"]}}, ["capture.mask"]),
        ({"capture": {"sample": 0.0, "mask": ["a", "b"]}}, {"capture": {"sample": 0.1, "mask": ["a"]}}, []),
        (
            {"capture": {"sample": 0.1}},
            {"capture": {"sample": 0.1, "mask_patterns": ["email"]}},
            ["capture.mask_patterns"],
        ),
        ({"capture": {"max_bytes": 2 << 30}}, {"capture": {"max_bytes": 1 << 30}}, ["capture.max_bytes"]),
        ({"capture": {"max_bytes": 1 << 30}}, {"capture": {"max_bytes": 2 << 30}}, []),
        ({"capture": {"sample": 0.1, "mask": ["a"]}}, {"capture": {"sample": 0.1}}, []),
        (
            {"retraining": {"auto_rollout": {"steps": [100, {"weight": 500, "webhook": "w"}]}}},
            {},
            ["retraining.auto_rollout.steps[1].webhook"],
        ),
        ({"retraining": {"auto_rollout": {"guards": ["promql"]}}}, {}, ["retraining.auto_rollout.guards[0]"]),
        ({"retraining": {"auto_rollout": True}}, {}, []),
        ({"monitor": {"sample": 0.5}, "slo": {"error_ratio": 0.1}, "triggers": [], "retraining": {}}, {}, []),
        ({"sinks": {}}, {"sinks": {"s": {"file": {"path": "x"}}}}, []),
    ],
)
def test_what_others_may_set(policy: dict[str, Any], stored: dict[str, Any], paths: list[str]) -> None:
    assert owner_only_settings(policy, stored) == paths
    assert owner_only_settings(stored, stored) == []


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ({"to": "2"}, []),
        ({"steps": [100, {"weight": 500, "approval": True, "min_labels": 5}]}, []),
        (
            {"steps": [{"weight": 1, "webhook": {"sink": "w"}, "query": {"query": "up"}}]},
            ["steps[0].query", "steps[0].webhook"],
        ),
        ({"steps": [{"weight": 1, "webhook": None}]}, []),
        ({"steps": [{"weight": 1, "future": "x"}]}, ["steps[0].future"]),
        ({"guards": [{"metric": "errors"}, {"metric": "promql", "query": "up"}]}, ["guards[1]"]),
        ({"steps": 7, "guards": "promql"}, []),
        ({"steps": [[]], "guards": [7]}, []),
    ],
)
def test_what_of_a_rollout_is_owner_only(document: dict[str, Any], paths: list[str]) -> None:
    assert owner_only_of_rollout(document) == paths


def test_only_a_proven_caller_who_administers_the_model_sets_them() -> None:
    admin = Caller("a", CallerKind.KEY, grants_of(["admin"], ["fraud-*"]))
    operator = Caller("o", CallerKind.OIDC, grants_of(["operator"]))
    for caller in (OWNER, admin):
        refuse_unauthorised(caller, "fraud-1", ["sinks.s"])
    for caller, model in ((ANONYMOUS, "fraud-1"), (operator, "fraud-1"), (admin, "other")):
        refuse_unauthorised(caller, model, [])
        with pytest.raises(Unauthorised, match="gateway's machine"):
            refuse_unauthorised(caller, model, ["sinks.s"])
    refuse_unproven(operator, ["steps[0].webhook"])
    with pytest.raises(Unauthorised, match="gateway's machine"):
        refuse_unproven(ANONYMOUS, ["steps[0].webhook"])
    assert Permission.ADMINISTER not in grants_of(["operator"])[0].permissions


GATES = {"approvals": 2, "card": ["licence"]}


@pytest.mark.parametrize(
    ("policy", "stored", "paths"),
    [
        ({"gates": GATES}, {}, ["gates"]),
        ({}, {"gates": GATES}, ["gates"]),
        ({"gates": {"approvals": 1}}, {"gates": GATES}, ["gates"]),
        ({"gates": GATES, "slo": {"error_ratio": 0.1}}, {"gates": GATES}, []),
        ({"gates": {}}, {}, []),
        ({"retraining": {"approval": False}}, {"retraining": {"approval": True}}, ["retraining.approval"]),
        ({"retraining": {}}, {"retraining": {"approval": True}}, ["retraining.approval"]),
        ({}, {"retraining": {"approval": True, "timeout_seconds": 60}}, ["retraining.approval"]),
        ({"retraining": {"quality_veto": False}}, {}, ["retraining.quality_veto"]),
        ({"retraining": {"budget_per_day": 9}}, {"retraining": {"budget_per_day": 1}}, ["retraining.budget_per_day"]),
        ({"retraining": {"gates": {"sane": False}}}, {"retraining": {"gates": {}}}, ["retraining.gates"]),
        ({"retraining": {"auto_rollout": True}}, {}, ["retraining.auto_rollout"]),
        ({"retraining": {"timeout_seconds": 60, "escalate_after": 2}}, {}, []),
        ({"monitor": {"sample": 0.5}, "triggers": [], "slo": {}, "sinks": {}}, {"triggers": [{"name": "t"}]}, []),
        ({"future": 1}, {}, ["future"]),
        ({"retraining": {"future": 1}}, {}, ["retraining.future"]),
    ],
)
def test_controls_of_a_policy(policy: dict[str, Any], stored: dict[str, Any], paths: list[str]) -> None:
    assert changed_controls(policy, stored) == paths
    assert changed_controls(stored, policy) == paths  # to tighten one is to change it
    assert changed_controls(stored, stored) == []


def test_only_who_administers_the_model_changes_a_control() -> None:
    admin = Caller("a", CallerKind.KEY, grants_of(["admin"], ["fraud-*"]))
    for caller in (OWNER, ANONYMOUS, admin):  # without authentication anybody on this machine may
        refuse_relaxing(caller, "fraud-1", ["gates"])
    for role in set(ROLES) - {"admin", "administer"}:
        caller = Caller("o", CallerKind.KEY, grants_of([role]))
        refuse_relaxing(caller, "fraud-1", [])
        with pytest.raises(Unauthorised, match="'gates' holds back"):
            refuse_relaxing(caller, "fraud-1", ["gates"])
    with pytest.raises(Unauthorised):
        refuse_relaxing(admin, "other", ["gates"])


BELOW_ADMINISTER = {
    # Changes without the permission administer, and why they relax nothing that somebody else has set.
    "POST /admin/v1/registry/verify": "changes nothing",
    "POST /admin/v1/audit/verify": "changes nothing",
    "POST /console/sign-in": "begins a session of the caller, with its permissions",
    "POST /console/sign-out": "ends one",
    "POST /admin/v1/webhooks/mlflow": "only has the sync look",
    "PUT /admin/v1/models/{model}/versions/{version}": "a version passes admission and gates before it has traffic",
    "DELETE /admin/v1/models/{model}/versions/{version}": "takes traffic away",
    "PUT /admin/v1/models/{model}/versions/{version}/reference": "is what drift is measured against; no gate reads it",
    "PUT /admin/v1/models/{model}/versions/{version}/signatures": "only keys of the configuration count",
    "POST /admin/v1/models/{model}/versions/{version}/approve": "is the control, and not by who pushed the version",
    "PUT /admin/v1/models/{model}/aliases/{alias}": "the gates hold",
    "DELETE /admin/v1/models/{model}/aliases/{alias}": "the gates hold",
    "POST /admin/v1/models/{model}/rollback": "the gates hold",
    "PUT /admin/v1/models/{model}/settings": "which versions are loaded, and for how long",
    "PUT /admin/v1/models/{model}/route": "the gates hold",
    "DELETE /admin/v1/models/{model}/route": "the gates hold",
    "POST /admin/v1/models/{model}/route/preview": "changes nothing",
    "POST /admin/v1/models/{model}/rollouts/preview": "changes nothing",
    "POST /admin/v1/models/{model}/predict": "is a prediction of the caller, with its quota",
    "POST /admin/v1/models/{model}/explain": "explains to the caller, and counts as no prediction",
    "POST /admin/v1/models/{model}/captured/explain": "explains a captured request to an operator; changes nothing",
    "POST /admin/v1/models/{model}/rollouts": "the gates hold",
    "POST /admin/v1/models/{model}/rollouts/{id}/{verb}": "the gates hold",
    "POST /admin/v1/models/{model}/rollouts/{id}/approve": "is the control, and not by who pushed the version",
    "POST /admin/v1/models/{model}/experiments": "the gates hold",
    "POST /admin/v1/models/{model}/experiments/{id}/{verb}": "the gates hold",
    "POST /admin/v1/models/{model}/monitor/relearn": "is what drift is measured against; no gate reads it",
    "PUT /admin/v1/models/{model}/policy": "its controls need administer: see above",
    "POST /admin/v1/models/{model}/policy/check": "changes nothing",
    "POST /admin/v1/models/{model}/retrain": "the gates of candidates hold",
    "POST /admin/v1/models/{model}/candidates/{version}/approve": "is the control, and not by who pushed the version",
    "POST /admin/v1/models/{model}/candidates/{version}/refuse": "keeps a version from traffic",
    "POST /admin/v1/models/{model}/outbox/replay": "sends what was sent before",
}


def test_no_other_change_below_administer_relaxes_a_control() -> None:
    """A new endpoint that changes something needs ``administer``, or a line above that says why it does not."""
    changes = {
        endpoint
        for endpoint, need in OPS.items()
        if not endpoint.startswith("GET ") and Permission.ADMINISTER not in need.permissions
    }
    assert changes == BELOW_ADMINISTER.keys()
