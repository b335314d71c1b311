"""Owner-only settings: every setting of a policy and of a rollout is known as one, or as none."""

from typing import Any

import pytest

from penstock.core import policies
from penstock.core.access.callers import ANONYMOUS, OWNER, Caller, CallerKind
from penstock.core.access.permissions import Permission, grants_of
from penstock.core.errors import Unauthorised
from penstock.core.owner_only import (
    POLICY_SECTIONS,
    QUERYING_GUARDS,
    RETRAINING,
    STEP,
    owner_only_of_rollout,
    owner_only_settings,
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
        ({"capture": {"sample": 0.0}}, {"capture": {"sample": 0.1, "mask": ["a"]}}, []),
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
