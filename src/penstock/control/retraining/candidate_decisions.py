"""What people ask of the candidates of a retraining request: their verdicts, approval and refusal."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from penstock.control.calls.blocking import READ_S
from penstock.control.retraining.row_source import AvailableRows
from penstock.core.desired import Desired, ModelSpec, VersionStatus
from penstock.core.errors import Conflict, NotFound, unknown_model
from penstock.core.gates import Exam, Gates
from penstock.core.policies import MonitorPolicy
from penstock.core.triggers.state import RuleState, decode_rule_state, encode_rule_state
from penstock.core.versions import VersionKey
from penstock.registry.records import Author, Document
from penstock.registry.stores.outbox import Decision, Outbox
from penstock.registry.stores.traffic import TrialEvent

SOON_S = 1.0
AGAIN_S = 10.0
FLEET_AGAIN_S = 30.0
"""Intervals between two checks whether enough labels have arrived: the first, and the longest on this gateway alone or
in all. Each is as long as the candidate has waited so far: labels that arrive soon are used soon."""

Run = Callable[..., Awaitable[Any]]


class CandidateWorkers(Protocol):
    """The workers of this gateway, as candidates need them."""

    @property
    def desired(self) -> Desired:
        """Return the desired state."""

    def statuses(self) -> list[VersionStatus]:
        """Return every version of every model."""


class PolicySource(Protocol):
    """The source of policies."""

    def policy_of(self, model: str) -> MonitorPolicy:
        """Return a model's policy."""

    def feature_names(self, key: tuple[str, str]) -> tuple[str, ...]:
        """Return the names of a version's features."""


@dataclass(frozen=True, slots=True)
class CandidateVerdict:
    """The verdict on a candidate: its gates and the version it was compared with, why it may not be rolled out, whether
    that may still change (``waits``), its exam, and the available rows.
    """

    gates: Gates
    against: str
    at: float
    reasons: tuple[str, ...] = ()
    waits: bool = False
    exam: Exam | None = None
    rows: AvailableRows | None = None
    since: float | None = None

    @property
    def waits_since(self) -> float:
        """When it began to wait for labels (seconds since the epoch)."""
        return self.at if self.since is None else self.since

    def is_due(self, now: float) -> bool:
        """Whether to check again at a time (seconds since the epoch)."""
        if self.rows is None:  # it waits for something else than labels
            return self.waits and now - self.at >= AGAIN_S
        longest = FLEET_AGAIN_S if self.rows.of_fleet else AGAIN_S
        return self.waits and now - self.at >= min(longest, max(SOON_S, self.at - self.waits_since))

    def following(self, previous: "CandidateVerdict | None") -> "CandidateVerdict":
        """Return the verdict that has waited since the previous one of the same comparison did."""
        if previous is None or (previous.gates, previous.against) != (self.gates, self.against):
            return self
        return replace(self, since=previous.waits_since) if previous.waits and previous.rows is not None else self


class CandidateDecisions:
    """The decisions of people on the candidates of one gateway. ``verdicts`` has what gates and exams found, ``run``
    runs blocking calls on a thread, and ``tried`` returns the versions that a rollout was ever begun to."""

    def __init__(
        self,
        outbox: Outbox,
        fleet: CandidateWorkers,
        policies: PolicySource,
        run: Run,
        verdicts: Mapping[VersionKey, CandidateVerdict],
        tried: Callable[[str], Awaitable[set[str]]],
    ) -> None:
        self._outbox = outbox
        self._fleet = fleet
        self._policies = policies
        self._run = run
        self._verdicts = verdicts
        self._tried = tried

    async def to_api(self, model: str) -> Document:
        """Return the open request, and the candidates of earlier ones; raises ``NotFound``."""
        self._spec(model)
        state = decode_rule_state((await self._run(self._outbox.rule_state, model, deadline_s=READ_S))[0])
        return self._document(model, state)

    def _document(self, model: str, state: RuleState) -> Document:
        flight, candidates = state.in_flight, self.list_candidates(model, state)
        under_way = None if flight is None else {"version": flight.version, "since": flight.at}
        return {"model": model, "in_flight": under_way, "candidates": candidates}

    def list_candidates(self, model: str, state: RuleState) -> list[Document]:
        """Return the documents of a model's candidates: those with a verdict, and those that a person has refused."""
        approval = self._policies.policy_of(model).limits.approval
        found = {version: verdict for (name, version), verdict in self._verdicts.items() if name == model}
        judged = [_candidate_document(version, verdict, state, approval) for version, verdict in found.items()]
        return [*judged, *(_refused_document(version, state) for version in state.refused if version not in found)]

    async def approve(self, model: str, version: str, by: Author) -> Document:
        """Approve a version that passes its gates for rollout, and the version itself.

        Raises:
            NotFound: no such model or version. Refused: it does not pass its other gates.
            Conflict: no request is under way that it could have come of.
        """
        state, revision = await self._open_state(model, version)
        after, decision = state, None
        if version not in state.approved:
            kept = {item: reason for item, reason in state.refused.items() if item != version}
            after = replace(state, approved=(*state.approved, version), refused=kept)
            event = _event_of(model, version, "candidate.approved.v1", "approval", by)
            decision = Decision(revision, encode_rule_state(after), event, "candidate.approve")
        await self._run(self._outbox.approve_version, model, version, by, decision)
        return self._document(model, after)  # nothing that could refuse: it is done

    async def refuse(self, model: str, version: str, by: Author) -> Document:
        """Refuse a version for rollout; the request stays open for another one.

        Raises:
            NotFound: no such model or version.
            Conflict: no request is under way that it could have come of, it answers already, or a rollout of it was
                begun.
        """
        state, revision = await self._open_state(model, version)
        if state.in_flight is not None and version == state.in_flight.version:
            raise Conflict(f"version '{version}' is the one that asked for retraining; there is nothing to refuse")
        if version in await self._tried(model):
            raise Conflict(f"a rollout to version '{version}' was begun; abort it instead")
        approved = tuple(item for item in state.approved if item != version)
        reason = f"{by.actor}: {by.reason}" if by.reason else by.actor
        after = replace(state, approved=approved, refused={**state.refused, version: reason})
        data: Document = {"reasons": [reason], "exam": None}
        event = _event_of(model, version, "candidate.refused.v1", f"refusal {revision}", by, data)
        commit = partial(self._outbox.commit, by=by, action="candidate.refuse")
        await self._run(commit, model, revision, encode_rule_state(after), event)
        return self._document(model, after)

    async def _open_state(self, model: str, version: str) -> tuple[RuleState, int]:
        """Return the state of a model with a request under way, and its revision; raises as ``approve``."""
        if version not in {item.version for item in self._spec(model).versions}:
            raise NotFound(f"model '{model}' serves no version '{version[:64]}'")
        stored, revision = await self._run(self._outbox.rule_state, model)
        state = decode_rule_state(stored)
        if state.in_flight is None:
            raise Conflict(f"no request for retraining of '{model}' is under way; begin a rollout instead")
        return state, revision

    def _spec(self, model: str) -> ModelSpec:
        spec = next((item for item in self._fleet.desired.models if item.name == model), None)
        if spec is None:
            raise unknown_model(model)
        return spec


def _event_of(
    model: str, version: str, kind: str, key: str, by: Author, more: Mapping[str, Any] = MappingProxyType({})
) -> TrialEvent:
    data = {"model": model, "version": version, "actor": by.actor, "reason": by.reason, **more}
    return TrialEvent(kind, f"models/{model}/versions/{version}", key, data)


def _candidate_document(version: str, verdict: CandidateVerdict, state: RuleState, approval: bool) -> Document:
    by_person = state.refused.get(version)
    return {
        "version": version,
        "against": verdict.against,
        "state": "refused" if by_person else _find_state(version, verdict, state, approval),
        "reasons": [*([by_person] if by_person else []), *verdict.reasons],
        "exam": None if verdict.exam is None else asdict(verdict.exam),
        "rows": None if verdict.rows is None else verdict.rows.document(),
        "approved": version in state.approved,
    }


def _refused_document(version: str, state: RuleState) -> Document:
    reasons = [state.refused[version]]
    document: Document = {"version": version, "against": "", "state": "refused", "reasons": reasons}
    return {**document, "exam": None, "rows": None, "approved": False}


def _find_state(version: str, verdict: CandidateVerdict, state: RuleState, approval: bool) -> str:
    """Return the state of a candidate; the version that asked for retraining meanwhile waits for no approval."""
    if verdict.reasons:
        return "waiting" if verdict.waits else "refused"
    asked = state.in_flight is not None and state.in_flight.version == version
    waits = approval and not asked and version not in state.approved
    return "waits_for_approval" if waits else "passed"
