"""Who may set what in a policy or a rollout, beyond the permission ``operate``.

Owner-only settings run code, read files, open addresses or keep callers' data: whoever sets them must be proven (the
gateway's own user by its unix socket, or a caller with a credential), and in a policy needs ``administer`` too.
Controls hold operators back: gates, approvals, budgets, and what rollouts start by themselves. Whoever changes one
needs ``administer``, so that nobody relaxes what somebody else has set for them.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

from penstock.core.access.callers import Caller
from penstock.core.access.permissions import Permission
from penstock.core.errors import Unauthorised

Document = Mapping[str, Any]


class SettingRule(Enum):
    """Who may change a setting of a policy."""

    OPERATE = "operate"
    """Whoever may set the policy."""

    CONTROL = "control"
    """Who may administer the model."""

    OWN_RULES = "own rules"
    """Its parts have rules of their own."""


POLICY_SECTIONS: Final[Mapping[str, SettingRule]] = {
    "monitor": SettingRule.OPERATE,
    "slo": SettingRule.OPERATE,
    "triggers": SettingRule.OPERATE,
    "reason": SettingRule.OPERATE,
    "gates": SettingRule.CONTROL,
    "capture": SettingRule.OWN_RULES,
    "sinks": SettingRule.OWN_RULES,
    "retraining": SettingRule.OWN_RULES,
}
"""The sections of a policy; one that is not here is a control."""

RETRAINING: Final[Mapping[str, SettingRule]] = {
    "timeout_seconds": SettingRule.OPERATE,
    "escalate_after": SettingRule.OPERATE,
    "budget_per_day": SettingRule.CONTROL,
    "quality_veto": SettingRule.CONTROL,
    "gates": SettingRule.CONTROL,
    "approval": SettingRule.CONTROL,
    "auto_rollout": SettingRule.CONTROL,
}
"""The settings of ``retraining``; one that is not here is a control. What is owner-only in ``auto_rollout`` is so
besides."""

STEP: Final[Mapping[str, bool]] = {
    "weight": False,
    "min_requests": False,
    "approval": False,
    "min_labels": False,
    "webhook": True,
    "query": True,
}
"""The settings of a rollout's step; True for owner-only ones."""

LARGER: Final[Mapping[str, float]] = {"sample": 0.0, "max_bytes": 256 << 20}
"""The settings of ``capture`` of which more keeps more, with the value of a policy without them."""

MASKS: Final = ("mask", "mask_patterns")
"""The settings of ``capture`` that leave something out: to shorten one keeps more, now or when capture is on again."""

QUERYING_GUARDS: Final = frozenset({"promql"})
"""Guards of rollouts that ask a server."""


def owner_only_settings(policy: Document, stored: Document) -> list[str]:
    """Return the paths of a policy's owner-only settings, without those that are in the ``stored`` policy already.

    Both are valid policies. Any sink is owner-only as a whole: there is none that neither runs code, nor opens a file
    or an address. Capture is, unless it keeps as much as before, or less.
    """
    return [*_find_sinks(policy, stored), *_capture(policy, stored), *_rollout_of(policy, stored)]


def changed_controls(policy: Document, stored: Document) -> list[str]:
    """Return the paths of the controls that a policy has otherwise than the ``stored`` one; both are valid policies."""
    sections = [
        name
        for name in _find_names(policy, stored)
        if POLICY_SECTIONS.get(name, SettingRule.CONTROL) is SettingRule.CONTROL and _is_different(policy, stored, name)
    ]
    now, before = (document.get("retraining") or {} for document in (policy, stored))
    retraining = [
        f"retraining.{name}"
        for name in _find_names(now, before)
        if RETRAINING.get(name, SettingRule.CONTROL) is SettingRule.CONTROL and _is_different(now, before, name)
    ]
    return sections + retraining


def owner_only_of_rollout(document: Document) -> list[str]:
    """Return the paths of a rollout's owner-only settings: gates that call a webhook, and queries to Prometheus.

    The document may be anything; what is not valid is left out.
    """
    return [*_step_settings(document.get("steps")), *_find_guards(document.get("guards"))]


def refuse_unproven(caller: Caller, paths: list[str]) -> None:
    """Refuse owner-only settings of somebody who is not proven; raises ``Unauthorised``."""
    if paths and not caller.is_proven:
        raise Unauthorised(
            f"'{paths[0]}' runs code, opens files or addresses, or keeps callers' data: set it with the penstock "
            "command on the gateway's machine, as the gateway's user, or with a credential"
        )


def refuse_unauthorised(caller: Caller, model: str, paths: list[str]) -> None:
    """Refuse owner-only settings of a policy of somebody who may not administer the model; raises ``Unauthorised``."""
    refuse_unproven(caller, paths)
    if paths and not caller.may(Permission.ADMINISTER, model):
        raise Unauthorised(
            f"'{paths[0]}' runs code, opens files or addresses, or keeps callers' data: it needs the permission "
            "administer; without it, use sinks of the configuration, or the penstock command on the gateway's machine"
        )


def refuse_relaxing(caller: Caller, model: str, paths: list[str]) -> None:
    """Refuse changed controls of a policy of somebody who may not administer the model; raises ``Unauthorised``."""
    if paths and not caller.may(Permission.ADMINISTER, model):
        raise Unauthorised(
            f"'{paths[0]}' holds back what operators may do: to change it needs the permission administer; leave it as "
            "it is, or ask somebody with the role admin on this model"
        )


def _find_names(policy: Document, stored: Document) -> list[str]:
    return sorted({*policy, *stored})


def _is_different(policy: Document, stored: Document, name: str) -> bool:
    """Whether a part differs; one that is empty says what one that is missing says."""
    now, before = (None if part in ({}, []) else part for part in (policy.get(name), stored.get(name)))
    return bool(now != before)


def _find_sinks(policy: Document, stored: Document) -> Iterator[str]:
    before = stored.get("sinks") or {}
    for name, sink in (policy.get("sinks") or {}).items():
        if before.get(name) != sink:
            yield f"sinks.{name}"


def _capture(policy: Document, stored: Document) -> Iterator[str]:
    """Yield what of capture keeps more than before: a larger share, more bytes, or columns that were masked."""
    now, before = policy.get("capture") or {}, stored.get("capture") or {}
    for name, least in LARGER.items():
        if now.get(name, least) > before.get(name, least):
            yield f"capture.{name}"
    for name in MASKS:
        if set(before.get(name) or ()) - set(now.get(name) or ()):
            yield f"capture.{name}"


def _rollout_of(policy: Document, stored: Document) -> Iterator[str]:
    now, before = (_auto_rollout(document) for document in (policy, stored))
    if now != before:
        yield from (f"retraining.auto_rollout.{path}" for path in owner_only_of_rollout(now))


def _auto_rollout(policy: Document) -> Document:
    stated = (policy.get("retraining") or {}).get("auto_rollout")
    return stated if isinstance(stated, dict) else {}


def _step_settings(steps: Any) -> Iterator[str]:
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        if isinstance(step, dict):
            yield from (f"steps[{index}].{name}" for name in sorted(step) if STEP.get(name, True) and step[name])


def _find_guards(guards: Any) -> Iterator[str]:
    for index, guard in enumerate(guards if isinstance(guards, list) else ()):
        metric = guard.get("metric") if isinstance(guard, dict) else guard
        if metric in QUERYING_GUARDS:
            yield f"guards[{index}]"
