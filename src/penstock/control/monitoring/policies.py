"""The policy of each model, as stored and as applied."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.schedules import parse_schedule
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.access.callers import ANONYMOUS, Caller, CallerKind
from penstock.core.access.permissions import Permission
from penstock.core.errors import InvalidInput, Unauthorised
from penstock.core.masking import SecretMask
from penstock.core.owner_only import changed_controls, owner_only_settings, refuse_relaxing, refuse_unauthorised
from penstock.core.policies import (
    OWNER_SINKS,
    MonitorPolicy,
    ReferenceColumns,
    decode_stored_policy,
    describe_policy,
    encode_stored_policy,
    parse_policy,
    refuse_unreachable,
)
from penstock.core.sink_rules import SinkRules
from penstock.core.sinks import SinkOrigin, SinkSpec
from penstock.registry.records import Author, Document
from penstock.registry.stores.monitor import MonitorStore

USUAL = MonitorPolicy()


class Policies:
    """Policies by model, on one event loop. If a policy cannot be read, the one before it stays, and ``task`` continues
    with the others. ``rules`` bounds the sinks, and ``mask`` hides their secrets from people."""

    def __init__(
        self,
        store: MonitorStore,
        pool: BlockingPool,
        task: PeriodicTask,
        rules: SinkRules | None = None,
        mask: SecretMask | None = None,
    ) -> None:
        self._store = store
        self._pool = pool
        self._rules = rules or SinkRules()
        self._mask = mask or SecretMask()
        self._usual = replace(USUAL, sinks=self._rules.declared)
        self._due: KeyedWork[str] = KeyedWork(task, "policy of")
        self._policies: dict[str, MonitorPolicy] = {}
        self._parsed: dict[str, Document] = {}
        self._changes = 0
        self._changed: dict[str, int] = {}

    def of(self, model: str) -> MonitorPolicy:
        """Return a model's policy, by default ``USUAL``."""
        return self._policies.get(model, self._usual)

    def document(self, model: str) -> Document:
        """Return a model's policy as JSON values, with masked secrets."""
        problem = self.problem(model)
        return {**self._mask.policy(describe_policy(self.of(model))), **({"problem": problem} if problem else {})}

    def problem(self, model: str) -> str:
        """Return why a model's policy cannot be read, "" for no problem."""
        return self._due.problem(model)

    @property
    def changes(self) -> int:
        """Return how many policies were set here so far."""
        return self._changes

    def take_over(self, documents: Mapping[str, Document], since: int | None = None) -> bool:
        """Use the stored policies, and return whether anything has changed. ``since`` is ``changes`` from before they
        were read: what was set here meanwhile is newer.
        """
        newer = {model for model, change in self._changed.items() if since is not None and change > since}
        self._changed = {model: change for model, change in self._changed.items() if model in newer}
        policies = {model: policy for model, policy in self._policies.items() if model in documents or model in newer}
        self._parsed = {model: document for model, document in self._parsed.items() if model in policies}
        read = [model for model, document in documents.items() if self._parsed.get(model) != document]
        for model in self._due.due([model for model in read if model not in newer]):
            self._parsed.pop(model, None)
            with self._due.isolated(model):
                policies[model] = decode_stored_policy(documents[model], parse_schedule, self._rules.declared)
                self._parsed[model] = documents[model]
        changed = policies != self._policies
        self._policies = policies
        return changed

    async def set(
        self,
        model: str,
        document: Document,
        by: Author,
        if_revision: int | None = None,
        columns: ReferenceColumns | None = None,
        caller: Caller = ANONYMOUS,
    ) -> Document:
        """Store and use a model's policy. ``columns``: see ``refuse_unreachable``. A masked secret stands for the
        stored one.

        Raises:
            InvalidInput: the document is not a policy.
            Unauthorised: it changes what only others than the ``caller`` may change (``core.owner_only``).
            Conflict: the model is not at ``if_revision``.
        """
        policy = await self._checked(model, document, columns, caller)
        kept, mask = encode_stored_policy(policy), self._mask.policy
        check = partial(self._check_change, caller, model, describe_policy(policy))
        revision = await self._pool.call(self._store.set_policy, model, kept, by, if_revision, mask, check)
        self._policies[model] = policy
        self._parsed.pop(model, None)
        self._changes += 1
        self._changed[model] = self._changes
        self._due.record_success(model)
        return {**self._mask.policy(describe_policy(policy)), "revision": revision}

    async def check(self, model: str, document: Document, columns: ReferenceColumns | None, caller: Caller) -> str:
        """Return why ``set`` would refuse a document, a sentence for each fault, "" if it would take it. Nothing is
        stored."""
        try:
            await self._checked(model, document, columns, caller)
        except (InvalidInput, Unauthorised) as fault:
            return str(fault)
        return ""

    async def _checked(
        self, model: str, document: Document, columns: ReferenceColumns | None, caller: Caller
    ) -> MonitorPolicy:
        """Return the policy in a document; raises as ``set``."""
        before = self.of(model)
        policy = self._parse(self._mask.restore(document, before.rules), before, caller)
        refuse_unreachable(policy, columns)
        self._check_change(caller, model, describe_policy(policy), describe_policy(before))
        await self._pool.call(self._rules.check, _changed_sinks(policy, before))
        return policy

    def _check_change(self, caller: Caller, model: str, policy: Document, stored: Document | None) -> None:
        """Check that a caller may replace the stored policy (None: there is none) by another; raises ``Unauthorised``.
        Who may change everything needs no look at a stored policy, which may not be readable."""
        if caller.is_proven and caller.may(Permission.ADMINISTER, model):
            return
        before = describe_policy(self._usual) if stored is None else {**stored}
        before.pop(OWNER_SINKS, None)
        refuse_unauthorised(caller, model, owner_only_settings(policy, before))
        refuse_relaxing(caller, model, changed_controls(policy, before))

    def _parse(self, document: Document, before: MonitorPolicy, caller: Caller) -> MonitorPolicy:
        """Return the policy in a document; its sinks are those of the caller, except what is as ``before``."""
        if caller.kind is CallerKind.OWNER:
            return parse_policy(document, parse_schedule, self._rules.declared, SinkOrigin.OWNER)
        policy = parse_policy(document, parse_schedule, self._rules.declared)
        kept = {
            name: spec for name, spec in before.own_sinks.items() if _states_alike(policy.own_sinks.get(name), spec)
        }
        return replace(policy, sinks={**policy.sinks, **kept})


def _changed_sinks(policy: MonitorPolicy, before: MonitorPolicy) -> dict[str, SinkSpec]:
    """Return the sinks that a policy itself declares, and that are others than before."""
    return {
        name: spec for name, spec in policy.own_sinks.items() if not _states_alike(spec, before.own_sinks.get(name))
    }


def _states_alike(spec: SinkSpec | None, other: SinkSpec | None) -> bool:
    """Whether two sinks state the same, whoever declared them."""
    return spec is not None and other is not None and (spec.kind, spec.values) == (other.kind, other.values)
