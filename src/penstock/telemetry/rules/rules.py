"""All rules: those of every fleet, and those of the policies of models."""

from collections.abc import Mapping
from typing import Any

from penstock.core.errors import Refused
from penstock.telemetry.rules.delivery_alerts import DELIVERY_ALERTS
from penstock.telemetry.rules.drift import drift_recordings
from penstock.telemetry.rules.latency import latency_recordings
from penstock.telemetry.rules.monitor_alerts import MONITOR_ALERTS
from penstock.telemetry.rules.objectives import objective_groups
from penstock.telemetry.rules.process_alerts import PROCESS_ALERTS
from penstock.telemetry.rules.rule import Group
from penstock.telemetry.rules.serving_alerts import SERVING_ALERTS
from penstock.telemetry.rules.trigger_alerts import trigger_alerts

Policy = Mapping[str, Any]
"""A policy as it was written, of which ``slo`` and ``triggers`` make rules."""


def fleet_groups() -> list[Group]:
    """Return the rules that need no policy."""
    return [
        Group("penstock-drift", drift_recordings(), "15s"),
        Group("penstock-latency", latency_recordings(), "15s"),
        Group("penstock-serving-alerts", SERVING_ALERTS),
        Group("penstock-monitor-alerts", MONITOR_ALERTS),
        Group("penstock-delivery-alerts", DELIVERY_ALERTS),
        Group("penstock-process-alerts", PROCESS_ALERTS),
    ]


def model_groups(policies: Mapping[str, Policy], *, round_latency: bool = False) -> list[Group]:
    """Return the rules of the policies of models, by their names; see ``objective_groups`` for ``round_latency``.

    Raises:
        Refused: with every model whose objectives cannot be rules.
    """
    groups: list[Group] = []
    faults: list[str] = []
    for model, policy in sorted(policies.items()):
        try:
            groups += objective_groups(model, policy.get("slo", {}), round_latency=round_latency)
        except Refused as fault:
            faults.append(f"{model}: {fault}")
        groups.append(Group(f"penstock-policy-{model}-alerts", trigger_alerts(model, policy.get("triggers", ()))))
    if faults:
        raise Refused("; ".join(faults))
    return [group for group in groups if group.rules]
