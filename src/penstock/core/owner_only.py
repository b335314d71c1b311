"""Owner-only settings: what in a policy or a rollout runs code, reads files, opens addresses or keeps callers' data.

Whoever sets them must be proven: the gateway's own user by its unix socket, or a caller with a credential. In a policy,
the permission ``administer`` is needed too.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from penstock.core.access.callers import Caller
from penstock.core.access.permissions import Permission
from penstock.core.errors import Unauthorised

Document = Mapping[str, Any]

POLICY_SECTIONS: Final[Mapping[str, bool]] = {
    "monitor": False,
    "slo": False,
    "triggers": False,
    "gates": False,
    "reason": False,
    "capture": True,
    "sinks": True,
    "retraining": True,
}
"""The sections of a policy; True for those that have owner-only settings."""

RETRAINING: Final[Mapping[str, bool]] = {
    "budget_per_day": False,
    "timeout_seconds": False,
    "quality_veto": False,
    "escalate_after": False,
    "gates": False,
    "approval": False,
    "auto_rollout": True,
}
"""The settings of ``retraining``; True for those that have owner-only settings."""

STEP: Final[Mapping[str, bool]] = {
    "weight": False,
    "min_requests": False,
    "approval": False,
    "min_labels": False,
    "webhook": True,
    "query": True,
}
"""The settings of a rollout's step; True for owner-only ones."""

MASKS: Final = ("mask", "mask_patterns")
"""The settings of ``capture`` that leave something out: to shorten one keeps more."""

QUERYING_GUARDS: Final = frozenset({"promql"})
"""Guards of rollouts that ask a server."""


def owner_only_settings(policy: Document, stored: Document) -> list[str]:
    """Return the paths of a policy's owner-only settings, without those that are in the ``stored`` policy already.

    Both are valid policies. Any sink is owner-only as a whole: there is none that neither runs code, nor opens a file
    or an address. Capture is, unless it keeps less than before.
    """
    return [*_sinks(policy, stored), *_capture(policy, stored), *_rollout_of(policy, stored)]


def owner_only_of_rollout(document: Document) -> list[str]:
    """Return the paths of a rollout's owner-only settings: gates that call a webhook, and queries to Prometheus.

    The document may be anything; what is not valid is left out.
    """
    return [*_step_settings(document.get("steps")), *_guards(document.get("guards"))]


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


def _sinks(policy: Document, stored: Document) -> Iterator[str]:
    before = stored.get("sinks") or {}
    for name, sink in (policy.get("sinks") or {}).items():
        if before.get(name) != sink:
            yield f"sinks.{name}"


def _capture(policy: Document, stored: Document) -> Iterator[str]:
    """Yield what of capture keeps more than before: a larger share, or columns that were masked."""
    now, before = policy.get("capture") or {}, stored.get("capture") or {}
    sample = now.get("sample", 0)
    if sample > before.get("sample", 0):
        yield "capture.sample"
    for name in MASKS if sample else ():
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


def _guards(guards: Any) -> Iterator[str]:
    for index, guard in enumerate(guards if isinstance(guards, list) else ()):
        metric = guard.get("metric") if isinstance(guard, dict) else guard
        if metric in QUERYING_GUARDS:
            yield f"guards[{index}]"
