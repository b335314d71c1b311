"""The stored document of a rollout: the rollout, the traffic before it, and what its evidence rests on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from penstock.control.delivery import observations
from penstock.control.delivery.trial import stored_route
from penstock.core.rollouts.documents import decode_rollout, encode_rollout, rollout_document
from penstock.core.rollouts.evidence_history import decode_history, encode_history, record_evidence
from penstock.core.rollouts.rollout import OPEN, Rollout, RolloutState
from penstock.core.routing import POINTS, RouteSpec, ShadowSpec, encode_stored_route, lay_out
from penstock.registry.records import Document, ModelRecord
from penstock.registry.stores.traffic import Trial, TrialChange, TrialEvent


@dataclass(frozen=True, slots=True)
class RolloutDocument:
    """A rollout's document: the rollout, the route before it and the present one, the champion before it, what every
    gateway had counted when its evidence was last brought up to date, and the evidence over time as stored."""

    rollout: Rollout
    base: RouteSpec | None
    route: RouteSpec | None
    champion: str | None
    salt: str
    observations: Mapping[str, Document]
    losses: Mapping[str, int]
    history: Document = field(default_factory=dict)

    @classmethod
    def parse(cls, document: Document) -> "RolloutDocument":
        """Decode a stored document; raises any of ``UNREADABLE`` for one of another release."""
        return cls(
            decode_rollout(document["rollout"]),
            stored_route(document["base"]),
            stored_route(document["route"]),
            document["champion"],
            document["salt"],
            document["seen"],
            document.get("losses", {}),
            document.get("history", {}),
        )

    def has_changed(self, observed: Mapping[str, Document], losses: Mapping[str, int]) -> bool:
        """Whether gateways have reached another stage, or are new."""
        return observations.stages_of(observed) != observations.stages_of(self.observations) or losses != self.losses

    def with_rollout(self, rollout: Rollout, now: float) -> "RolloutDocument":
        """Return the document with a later state of the rollout, whose evidence at this time is recorded."""
        if rollout == self.rollout:
            return self
        history = encode_history(record_evidence(decode_history(self.history), rollout, now))
        return replace(self, rollout=rollout, history=history)

    def to_document(self) -> Document:
        """Encode the document for the store."""
        return {
            "rollout": encode_rollout(self.rollout),
            "base": None if self.base is None else encode_stored_route(self.base),
            "route": None if self.route is None else encode_stored_route(self.route),
            "champion": self.champion,
            "salt": self.salt,
            "seen": dict(self.observations),
            "losses": dict(self.losses),
            "history": dict(self.history),
            "told": rollout_document(self.rollout),
        }

    @property
    def counts_outputs(self) -> bool:
        """Whether outputs must be counted."""
        return any(guard.metric in ("outputs", "quality") for guard in self.rollout.spec.guards)

    def stage_route(self, present: RouteSpec | None) -> RouteSpec | None:
        """Return the route of the rollout's present stage; None if the champion alone decides again."""
        rollout, base = self.rollout, self.base
        spec, weight = rollout.spec, rollout.weight
        if rollout.ended_without_promotion:
            return base
        if rollout.state is RolloutState.PROMOTED:
            return None if base is None else _promoted_route(base, spec.to, present)
        split = {spec.control: POINTS - weight, spec.to: weight}
        mirrored = (ShadowSpec(spec.to, rollout.mirrored),) if rollout.mirrored else ()
        shadow = () if base is None else tuple(item for item in base.shadow if item.version != spec.to)
        return RouteSpec(
            split,
            "" if base is None else base.sticky,
            () if base is None else base.rules,
            (*shadow, *mirrored),
            spec.control,
            lay_out(split, () if present is None else present.ranges),
            self.salt,
            watched=self.counts_outputs,
        )


def _promoted_route(base: RouteSpec, to: str, present: RouteSpec | None) -> RouteSpec:
    """Return the previous route with the promoted version in place of the control."""
    split = {to: POINTS}
    shadow = tuple(item for item in base.shadow if item.version != to)
    ranges = lay_out(split, () if present is None else present.ranges)
    return replace(base, split=split, shadow=shadow, stable=to, ranges=ranges)


def next_change(trial: Trial, after: Rollout, record: ModelRecord) -> TrialChange:
    """Return the changes of one transaction when a rollout changes its state."""
    document = RolloutDocument.parse(trial.document)
    before, document = document.rollout, replace(document, rollout=after)
    event = None if after.state in OPEN else _finished_event(trial, after)
    if after.spec.dry_run or (after.state in OPEN and after.stage == before.stage):
        return TrialChange(document.to_document(), open=after.state in OPEN, keep_route=True, event=event)
    document = replace(document, route=document.stage_route(record.route))
    promotion = (document.champion, after.spec.to) if after.state is RolloutState.PROMOTED else None
    return TrialChange(
        document.to_document(),
        after.state in OPEN,
        document.route,
        champion=promotion,
        event=event,
        returns=after.ended_without_promotion,
    )


def _finished_event(trial: Trial, rollout: Rollout) -> TrialEvent:
    return TrialEvent(
        "rollout.finished.v1",
        f"models/{trial.model}/versions/{rollout.spec.to}",
        trial.id,
        {"rollout": trial.id, "model": trial.model, **rollout_document(rollout)},
    )
