"""Counts refused requests of a worker: by reason in its slot, and by caller and address for the audit."""

from dataclasses import asdict
from typing import Any, Final, Protocol

from penstock.core.access.callers import Caller
from penstock.core.access.refusals import Refusal, RefusalReason

MOST_KINDS: Final = 64
"""Kinds of refusals that are kept until they are taken; further ones are counted together."""


class ReasonCounter(Protocol):
    """Counts refusals by reason, such as the slot of a worker."""

    def count_auth_refusal(self, reason: RefusalReason, dry_run: bool) -> None:
        """Count a refused request, or with ``dry_run`` one that would be refused."""


class RefusedRequests:
    """The refusals of one worker; belongs to its event loop."""

    def __init__(self, reasons: ReasonCounter | None = None) -> None:
        self._reasons = reasons
        self._kinds: dict[Refusal, int] = {}

    def count_unidentified(self, reason: RefusalReason, dry_run: bool, address: str) -> None:
        """Count a request that is refused without a caller: by its credential, its host or its origin."""
        self._count(reason, dry_run, Refusal("auth.refuse", address=address, detail=reason.value))

    def count_permission(self, dry_run: bool, caller: Caller, detail: str, address: str) -> None:
        """Count a request of a caller without the permission."""
        kind = Refusal("access.refuse", caller.name, caller.kind.value, caller.key_id, address, detail)
        self._count(RefusalReason.NOT_PERMITTED, dry_run, kind)

    def _count(self, reason: RefusalReason, dry_run: bool, kind: Refusal) -> None:
        if self._reasons is not None:
            self._reasons.count_auth_refusal(reason, dry_run)
        if dry_run:
            return
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            kind = Refusal(kind.action, detail="others")
        self._kinds[kind] = self._kinds.get(kind, 0) + 1

    def take(self) -> list[dict[str, Any]]:
        """Return what was refused since the last call, each kind with its ``count``."""
        kinds, self._kinds = self._kinds, {}
        return [{**asdict(kind), "count": count} for kind, count in kinds.items()]
