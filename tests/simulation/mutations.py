"""Faults put into the product on purpose, each with the invariant that must find it: proof that no check is idle."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from penstock.control.delivery import observations, rollout_documents, rollouts, trial
from penstock.control.monitoring import fleet_evidence
from penstock.control.monitoring.fleet_evidence import FleetEvidence
from penstock.control.monitoring.publication import CountsLayout, VersionCounts, pack_counts, sum_published
from penstock.control.monitoring.publisher import Publisher
from penstock.control.retraining import candidates, rules
from penstock.control.retraining.dispatcher import Dispatcher
from penstock.core.errors import Conflict
from penstock.core.leases import Lease
from penstock.core.rollouts import decision
from penstock.core.rollouts.decision import RolloutAction, RolloutActionKind, RolloutSnapshot
from penstock.core.rollouts.rollout import Rollout, RolloutState
from penstock.core.routing import POINTS
from penstock.core.triggers import rules as triggers_rules
from penstock.core.triggers.rules import RuleLimits
from penstock.core.triggers.state import decode_rule_state
from penstock.core.versions import VersionKey
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaseHolder, read_lease
from penstock.registry.records import Author
from penstock.registry.stores import versions
from penstock.registry.stores.contents import ContentStore
from penstock.registry.stores.evidence import EvidenceStore, LabelBatch, VersionVerdict
from penstock.registry.stores.journal import Journal
from penstock.registry.stores.outbox import Decision, Delivery, Outbox
from penstock.registry.stores.traffic import TrafficStore

Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault; ``invariant`` is the only one that may find it. ``slow`` ones need many runs; ``seed`` is that of a
    run that finds it; a test says so, and which other one does, once that run takes another course.
    """

    name: str
    invariant: str
    apply: Callable[[Patch], None]
    slow: bool
    seed: int


MUTATIONS: list[Mutation] = []


def breaks(
    invariant: str, slow: bool = False, seed: int = 0
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Enter a fault into the table."""

    def entered(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTATIONS.append(Mutation(apply.__name__, invariant, apply, slow, seed))
        return apply

    return entered


# What is served.


@breaks("aliases_lead_to_versions", seed=14)
def to_retire_looks_at_no_alias(patch: Patch) -> None:
    refuse = versions._refuse_needed
    patch.setattr(versions, "_refuse_needed", lambda record, item: refuse(replace(record, aliases={}), item))


@breaks("routes_are_whole")
def the_weight_of_a_control_is_off_by_one(patch: Patch) -> None:
    patch.setattr(rollout_documents, "POINTS", POINTS + 1)


@breaks("routes_lead_to_versions", seed=4)
def to_retire_looks_at_no_route(patch: Patch) -> None:
    refuse = versions._refuse_needed
    patch.setattr(versions, "_refuse_needed", lambda record, item: refuse(replace(record, route=None), item))
    patch.setattr(versions, "needed_by_trials", lambda *_: {})


@breaks("contents_are_kept", seed=19)
def to_collect_looks_at_no_version(patch: Patch) -> None:
    patch.setattr(ContentStore, "_needed", lambda *_: set())


# What is written down.


@breaks("audit_does_not_change")
def a_line_of_the_audit_is_brought_up_to_date(patch: Patch) -> None:
    write = Journal.record_audit

    def audit(self: Journal, connection: sa.Connection, *line: Any) -> None:
        connection.exec_driver_sql("DROP TRIGGER IF EXISTS audit_no_update")
        connection.exec_driver_sql("UPDATE audit SET reason = 'again' WHERE seq = (SELECT max(seq) FROM audit)")
        write(self, connection, *line)

    patch.setattr(Journal, "record_audit", audit)


@breaks("audit_has_no_gap")
def the_audit_draws_two_numbers_for_a_line(patch: Patch) -> None:
    write = Journal.record_audit

    def audit(self: Journal, connection: sa.Connection, *line: Any) -> None:
        connection.exec_driver_sql("DROP TRIGGER IF EXISTS audit_no_update")
        write(self, connection, *line)
        connection.exec_driver_sql("UPDATE audit SET seq = seq + 1 WHERE seq = (SELECT max(seq) FROM audit)")

    patch.setattr(Journal, "record_audit", audit)


@breaks("what_was_acknowledged_is_written", seed=6)
def to_drop_an_alias_is_not_audited(patch: Patch) -> None:
    write = Journal.record_audit

    def audit(self: Journal, connection: sa.Connection, model: str, action: str, *line: Any) -> None:
        if action != "alias.drop":
            write(self, connection, model, action, *line)

    patch.setattr(Journal, "record_audit", audit)


@breaks("what_was_refused_is_not_written", seed=6)
def a_route_that_is_set_is_tried_again(patch: Patch) -> None:
    set_route = TrafficStore.set_route

    def twice(self: TrafficStore, *asked: Any) -> int:
        set_route(self, *asked)
        raise Conflict("the model has moved on")

    patch.setattr(TrafficStore, "set_route", twice)


@breaks("an_operation_is_one_transaction", seed=3)
def a_decision_follows_its_approval(patch: Patch) -> None:
    approve = Outbox.approve_version

    def apart(self: Outbox, model: str, version: str, by: Author, decision: Decision | None = None) -> None:
        approve(self, model, version, by)
        if decision is not None:
            self.commit(model, decision.revision, decision.document, decision.event, (), by, decision.action)

    patch.setattr(Outbox, "approve_version", apart)


# Rollouts and experiments.


@breaks("ends_restore_the_route")
def a_rollout_that_was_given_up_keeps_its_route(patch: Patch) -> None:
    patch.setattr(Rollout, "ended_without_promotion", False)


@breaks("what_is_promoted_does_no_harm", seed=14)
def a_rollout_ends_at_its_first_step(patch: Patch) -> None:
    def decide(snapshot: RolloutSnapshot) -> RolloutAction | None:
        at_once = snapshot.rollout.state is RolloutState.RUNNING and snapshot.acknowledged
        return RolloutAction(RolloutActionKind.PROMOTE, "in haste") if at_once else decision.decide(snapshot)

    patch.setattr(rollouts, "decide", decide)


@breaks("what_is_promoted_is_the_champion", slow=True)
def a_promotion_leaves_the_champion(patch: Patch) -> None:
    patch.setattr(TrafficStore, "_promote_champion", lambda *_: None)


@breaks("candidates_have_passed", slow=True)
def gates_are_open(patch: Patch) -> None:
    patch.setattr(candidates, "check_gates", lambda *_: [])


class _Everything(tuple[str, ...]):
    __slots__ = ()

    def __contains__(self, _: object) -> bool:
        return True


@breaks("candidates_are_approved", seed=5)
def nobody_is_asked_for_approval(patch: Patch) -> None:
    patch.setattr(
        candidates, "decode_rule_state", lambda kept: replace(decode_rule_state(kept), approved=_Everything())
    )


@breaks("harm_is_short", seed=6)
def a_rollout_decides_on_old_evidence(patch: Patch) -> None:
    observe, reported = TrafficStore.observe, set[tuple[str, str]]()

    def once(self: TrafficStore, trial_id: str, gateway: str, document: dict[str, Any]) -> None:
        if (trial_id, gateway) not in reported:
            reported.add((trial_id, gateway))
            observe(self, trial_id, gateway, document)

    patch.setattr(TrafficStore, "observe", once)


@breaks("counts_belong_to_open_trials", seed=14)
def counts_of_a_trial_outlive_it(patch: Patch) -> None:
    delete = schema.observations.delete
    patch.setattr(schema.observations, "delete", lambda: delete().where(sa.false()))


# Evidence.


@breaks("requests_keep_the_budget", slow=True)
def rules_know_no_budget(patch: Patch) -> None:
    def decide(triggers: Any, limits: RuleLimits, *known: Any) -> Any:
        eager = replace(limits, budget_per_day=1000, escalate_after=1000, timeout_s=1.0)
        return triggers_rules.decide(triggers, eager, *known)

    patch.setattr(rules, "decide", decide)


@breaks("nothing_counts_twice", seed=7)
def a_gateway_that_was_taken_for_ended_says_all_again(patch: Patch) -> None:
    def row(self: Publisher, key: VersionKey, counts: VersionCounts) -> object:
        return pack_counts(key, self._gateway, counts)

    patch.setattr(Publisher, "_row", row)


@breaks("nothing_is_lost", seed=1)
def counts_of_ended_gateways_are_deleted(patch: Patch) -> None:
    patch.setattr(fleet_evidence, "add_ended", lambda *_: None)


@breaks("labels_count_once", seed=2)
def a_batch_that_is_written_again_has_another_name(patch: Patch) -> None:
    add = EvidenceStore.add_labels

    def add_labels(self: EvidenceStore, batches: Sequence[LabelBatch]) -> None:
        add(self, batches)
        add(self, [replace(batch, id=uuid4().hex) for batch in batches])

    patch.setattr(EvidenceStore, "add_labels", add_labels)


@breaks("labels_count_for_their_version", seed=2)
def batches_are_all_of_one_version(patch: Patch) -> None:
    add = EvidenceStore.add_labels

    def add_labels(self: EvidenceStore, batches: Sequence[LabelBatch]) -> None:
        add(self, [replace(batch, model=batches[0].model, version=batches[0].version) for batch in batches])

    patch.setattr(EvidenceStore, "add_labels", add_labels)


@breaks("no_label_is_lost", slow=True)
def labels_count_as_written_before_they_are(patch: Patch) -> None:
    """One of tests/unit/control/monitoring/test_fleet_evidence.py finds it at once; here it takes tens of runs."""

    def publish(self: FleetEvidence) -> None:
        batches = self.labels.batches()
        self.labels.forget_current()
        self._store.add_labels(batches)

    patch.setattr(FleetEvidence, "_publish_labels", publish)


@breaks("rewards_count_once", seed=4)
def an_experiment_forgets_what_it_has_counted(patch: Patch) -> None:
    for module in (observations, trial):
        patch.setattr(module, "known_until", lambda *_: -1.0)


@breaks("the_leader_reports_the_sum", seed=7)
def the_leader_reports_its_own_share(patch: Patch) -> None:
    def read(self: FleetEvidence, shapes: Mapping[VersionKey, CountsLayout]) -> dict[VersionKey, VersionCounts]:
        return sum_published(
            [row for row in self._store.published() if row.gateway == self._publisher._gateway], shapes
        )

    patch.setattr(FleetEvidence, "_read", read)


# The outbox.


@breaks("sent_events_have_arrived", seed=1)
def a_delivery_counts_as_sent_before_it_is(patch: Patch) -> None:
    async def sent(self: Dispatcher, delivery: Delivery) -> bool:
        spec = self._sinks(delivery.model).get(delivery.sink)
        written = await self._write(partial(self._outbox.mark_sent, delivery))
        with suppress(Exception):
            await self._send(spec, delivery, self._context)
        return written

    patch.setattr(Dispatcher, "_send_one", sent)


@breaks("events_arrive_in_order", slow=True)
def the_newest_event_is_sent_first(patch: Patch) -> None:
    patch.setattr(sa.func, "min", sa.func.max, raising=False)


@breaks("nothing_waits")
def a_sender_never_becomes_free(patch: Patch) -> None:
    patch.setattr(Dispatcher, "_on_sent", lambda *_: None)


# Leadership.


@breaks("somebody_leads", seed=15)
def a_lease_never_ends(patch: Patch) -> None:
    patch.setattr(Lease, "is_free", property(lambda self: not self.holder))


@breaks("one_leads_in_a_term")
def everybody_leads(patch: Patch) -> None:
    def step(self: LeaseHolder, database: Any, now: float) -> None:
        with database.reading() as connection:
            term = read_lease(connection).term
        self._on_acquired(term if self._write(database, term, term) else None, now)

    patch.setattr(LeaseHolder, "_step", step)


@breaks("only_the_leader_writes")
def whoever_led_goes_on_unchecked(patch: Patch) -> None:
    look = LeaseHolder.acquire_leadership
    patch.setattr(
        LeaseHolder, "acquire_leadership", lambda self, database: self._term is not None or look(self, database)
    )
    patch.setattr(LeaseHolder, "check", lambda *_: None)


@breaks("failures_explain_themselves")
def every_version_has_a_verdict(patch: Patch) -> None:
    look = EvidenceStore.verdict

    def verdict(self: EvidenceStore, model: str, version: str) -> VersionVerdict:
        found = look(self, model, version)
        if found is None:
            raise KeyError(version)
        return found

    patch.setattr(EvidenceStore, "verdict", verdict)
