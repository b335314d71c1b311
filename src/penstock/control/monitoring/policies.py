"""The policy of each model, as stored and as applied."""

from collections.abc import Mapping

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.schedules import schedule_in
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.policies import MonitorPolicy, policy_in, policy_out, refuse_unreachable
from penstock.registry.records import Author, Document
from penstock.registry.stores.monitor import MonitorStore

USUAL = MonitorPolicy()


class Policies:
    """Policies by model, on one event loop. If a policy cannot be read, the one before it stays, and ``task`` continues
    with the others."""

    def __init__(self, store: MonitorStore, pool: BlockingPool, task: PeriodicTask) -> None:
        self._store = store
        self._pool = pool
        self._due: KeyedWork[str] = KeyedWork(task, "policy of")
        self._policies: dict[str, MonitorPolicy] = {}

    def of(self, model: str) -> MonitorPolicy:
        """Return a model's policy, by default ``USUAL``."""
        return self._policies.get(model, USUAL)

    def document(self, model: str) -> Document:
        """Return a model's policy as JSON values."""
        problem = self.problem(model)
        return {**policy_out(self.of(model)), **({"problem": problem} if problem else {})}

    def problem(self, model: str) -> str:
        """Return why a model's policy cannot be read, "" for no problem."""
        return self._due.problem(model)

    def take_over(self, documents: Mapping[str, Document]) -> bool:
        """Use the stored policies, and return whether anything has changed."""
        policies = {model: policy for model, policy in self._policies.items() if model in documents}
        for model in self._due.due(documents):
            with self._due.isolated(model):
                policies[model] = policy_in(documents[model], schedule_in)
        changed = policies != self._policies
        self._policies = policies
        return changed

    async def set(
        self,
        model: str,
        document: Document,
        by: Author,
        if_revision: int | None = None,
        columns: Mapping[str, int] | None = None,
    ) -> Document:
        """Store and use a model's policy. ``columns``: see ``refuse_unreachable``.

        Raises:
            InvalidInput: the document is not a policy.
            Conflict: the model is not at ``if_revision``.
        """
        policy = policy_in(document, schedule_in)
        refuse_unreachable(policy, columns)
        revision = await self._pool.call(self._store.set_policy, model, policy_out(policy), by, if_revision)
        self._policies[model] = policy
        self._due.record_success(model)
        return {**policy_out(policy), "revision": revision}
