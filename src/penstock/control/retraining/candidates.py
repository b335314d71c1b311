"""Evaluates the candidate of a retraining request by its gates, waits for approval, and starts its rollout."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import ProblemLog, describe
from penstock.control.retraining.candidate_decisions import (
    CandidateDecisions,
    CandidateVerdict,
    CandidateWorkers,
    PolicySource,
)
from penstock.control.retraining.holdout import run_exam
from penstock.control.retraining.row_source import RowSource
from penstock.core.desired import ModelSpec, ReadyState, VersionSpec
from penstock.core.errors import Conflict, Fault, NotFound, NotReady, Refused
from penstock.core.exams import Exams
from penstock.core.gates import CandidateFacts, Gates, HoldoutGate, check_exam, check_gates
from penstock.core.triggers.state import InFlight, RuleState, candidate_version, decode_rule_state, encode_rule_state
from penstock.monitor.captured_rows import LabelledRows, RowSelection
from penstock.registry.records import Author, Document, ModelRecord, VersionRecord, VersionState
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.traffic import TrialEvent

log = logging.getLogger("penstock.control")

TRIES = 5
"""Attempts to write a record that others change too."""

THREADS = 2
EXAMS = 2
"""Maximum concurrent exams, on threads of their own: they take minutes, and nothing else waits for them."""

EXAM_S = 3600.0
"""Deadline of an exam including its wait for others; an exam limits itself to minutes."""

RULES = "rules"
"""The actor of rollouts that start automatically."""


class RolloutStarter(Protocol):
    """Rollouts, as candidates need them."""

    async def begin_as_leader(self, model: str, document: Document, by: Author) -> Document:
        """Start a rollout as the leader."""

    async def versions_tried(self, model: str) -> set[str]:
        """Return the versions that a rollout of the model was ever begun to."""


ReadModel = Callable[[str], ModelRecord]
"""Returns a model of the registry; raises ``NotFound``."""


class Candidates:
    """The candidates of one gateway; ``rows`` has the captured rows, ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        outbox: Outbox,
        record: ReadModel,
        fleet: CandidateWorkers,
        policies: PolicySource,
        rollouts: RolloutStarter,
        rows: RowSource,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._leader = outbox.as_leader()
        self._record = record
        self._fleet = fleet
        self._policies = policies
        self._rollouts = rollouts
        self._rows = rows
        self._clock = clock
        self._pool = BlockingPool("candidates", THREADS)
        self._run = self._pool.call
        self._exam_pool = BlockingPool("exams", EXAMS, "the exam", EXAM_S)
        self.pools = (self._pool, self._exam_pool)
        self._exams: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._verdicts: dict[tuple[str, str], CandidateVerdict] = {}
        self._problem_log = ProblemLog()
        people = CandidateDecisions(outbox, fleet, policies, self._run, self._verdicts, rollouts.versions_tried)
        self.to_api, self.list_candidates = people.to_api, people.list_candidates
        self.approve, self.refuse = people.approve, people.refuse

    # What happens by itself.

    async def step(self, spec: ModelSpec, answering: str | None) -> None:
        """Move the candidate of a model's request one step forward, if the policy requires it."""
        limits = self._policies.policy_of(spec.name).limits
        if limits.auto_rollout is None or answering is None:
            return
        state = decode_rule_state((await self._run(self._outbox.rule_state, spec.name))[0])
        if state.in_flight is None:
            return
        try:
            versions = (await self._run(self._record, spec.name)).versions
        except NotFound:
            return
        version = await self._new_version(spec.name, state, answering, versions)
        if version is None or not self._has_passed(spec, versions, version, answering, limits.gates):
            return
        if limits.approval and version not in state.approved:
            self._complain(spec.name, version, "it waits for a person's approval")
            return
        await self._roll_out(spec.name, {**limits.auto_rollout, "to": version, "from": answering}, state.in_flight)

    async def _new_version(
        self, model: str, state: RuleState, answering: str, versions: Mapping[str, VersionRecord]
    ) -> str | None:
        """Return the candidate of the model's request without a rollout so far, None for none."""
        ready = {
            status.version
            for status in self._fleet.statuses()
            if status.model == model and status.state is ReadyState.READY
        }
        pushed = {
            name: datetime.fromisoformat(version.created_at).timestamp()
            for name, version in versions.items()
            if name in ready
        }
        if candidate_version(state, answering, pushed, ()) is None:
            return None  # the rollouts of a model may be many: they are read only where there is something new
        return candidate_version(state, answering, pushed, await self._rollouts.versions_tried(model))

    async def _roll_out(self, model: str, document: Document, flight: InFlight) -> None:
        """Start a rollout to the candidate of a request."""
        by = Author(RULES, f"it came of the request of {datetime.fromtimestamp(flight.at, UTC):%F %T}")
        try:
            await self._rollouts.begin_as_leader(model, document, by)
        except Fault as fault:
            self._complain(model, document["to"], str(fault))

    def close(self) -> None:
        """End the threads; an open exam ends by its own deadline."""
        for task in self._exams.values():
            task.cancel()
        for pool in self.pools:
            pool.close()

    def _has_passed(
        self, spec: ModelSpec, versions: Mapping[str, VersionRecord], version: str, champion: str, gates: Gates
    ) -> bool:
        """Whether a version has passed its gates; evaluates them if that was not done yet."""
        key = (spec.name, version)
        verdict = self._verdicts.get(key)
        stale = verdict is None or (verdict.gates, verdict.against) != (gates, champion)
        due = verdict is not None and verdict.is_due(self._clock())
        if (stale or due) and key not in self._exams:
            task = asyncio.create_task(self._judge(spec, versions, version, champion, gates))
            self._exams[key] = task
            task.add_done_callback(lambda _: self._exams.pop(key, None))
        return not stale and verdict is not None and not verdict.reasons

    async def _judge(
        self, spec: ModelSpec, versions: Mapping[str, VersionRecord], version: str, champion: str, gates: Gates
    ) -> None:
        present = versions.get(champion)
        reasons = check_gates(
            gates, _read_candidate(versions[version]), None if present is None else _read_candidate(present)
        )
        verdict = CandidateVerdict(gates, champion, self._clock(), tuple(reasons))
        if not reasons and (refusal := await self._run(self._outbox.gate_refusal, spec.name, version)):
            verdict = replace(verdict, reasons=(refusal,), waits=True)
        elif not reasons and gates.held_out is not None:
            verdict = await self._after_exam(spec, verdict, version, gates.held_out)
        verdict = verdict.following(self._verdicts.get((spec.name, version)))
        self._verdicts[spec.name, version] = verdict
        for key in [key for key in self._verdicts if key[0] == spec.name and not _is_admitted(versions.get(key[1]))]:
            del self._verdicts[key]
        if verdict.reasons:
            self._complain(spec.name, version, "; ".join(verdict.reasons))
        if not verdict.waits:
            await self._emit(spec.name, version, verdict)

    async def _after_exam(
        self, spec: ModelSpec, verdict: CandidateVerdict, version: str, asked: HoldoutGate
    ) -> CandidateVerdict:
        """Return the verdict after an exam, if there are rows for one; an exam of an earlier process is remembered."""
        try:
            exams = decode_rule_state((await self._run(self._outbox.rule_state, spec.name))[0]).exams
            result = exams.result(version, verdict.against, _hash_gates(verdict.gates))
            if result is not None:
                return replace(verdict, reasons=result)
            specs = {item.version: item for item in spec.versions}
            if not specs.keys() >= {version, verdict.against}:
                return replace(
                    verdict,
                    reasons=(f"its exam waits until versions {version} and {verdict.against} are served",),
                    waits=True,
                )
            return await self._run_exam(spec.name, verdict, (specs[version], specs[verdict.against]), asked)
        except Fault as fault:
            waits = isinstance(fault, Conflict | NotReady)
            return replace(verdict, reasons=(str(fault),), waits=waits)
        except Exception as error:
            text = f"the exam of model {spec.name} version {version} failed: {describe(error)}"
            self._problem_log.report(("exam", spec.name, version), text, error)
            return replace(verdict, reasons=("its exam failed",), waits=True)

    async def _run_exam(
        self, model: str, verdict: CandidateVerdict, pair: tuple[VersionSpec, VersionSpec], asked: HoldoutGate
    ) -> CandidateVerdict:
        """Return the verdict after an exam of the first version against the second, by held-out rows with labels; one
        that waits while there are too few.
        """
        version, against = pair[0].version, pair[1].version
        selection = RowSelection(model, against, asked.share, for_exam=True)
        rows, gathered = await self._exam_pool.call(self._rows.labelled, selection)
        verdict = replace(verdict, rows=gathered)
        if rows is None or gathered.rows < asked.least:
            reason = f"it waits for labels: {gathered.rows} held-out rows have one, {asked.least} are asked"
            return replace(verdict, reasons=(reason,), waits=True)
        # Counted before it is begun: no exam goes uncounted because its process ends.
        begun = await self._remember(model, lambda item: item.begun(version, against, _hash_gates(verdict.gates)))
        names = next(filter(None, (self._policies.feature_names((model, item.version)) for item in pair)), ())
        held = await self._exam_pool.call(self._compare, asked, rows, pair, verdict, begun.count, names)
        await self._remember(model, lambda item: item.with_result(version, against, held.reasons))
        return held

    async def _remember(self, model: str, change: Callable[[Exams], Exams]) -> Exams:
        """Change a model's record of exams; return the new state. Conflicting changes are retried.

        Raises:
            Conflict: it changed under every try.
        """
        for _ in range(TRIES):
            stored, revision = await self._run(self._outbox.rule_state, model)
            state = decode_rule_state(stored)
            after = replace(state, exams=change(state.exams))
            try:
                await self._run(self._leader.commit, model, revision, encode_rule_state(after))
                return after.exams
            except Conflict:
                continue
        raise Conflict("the exam could not be counted; the next step retries it")

    @staticmethod
    def _compare(
        asked: HoldoutGate,
        rows: LabelledRows,
        pair: tuple[VersionSpec, VersionSpec],
        verdict: CandidateVerdict,
        tries: int,
        names: Sequence[str],
    ) -> CandidateVerdict:
        """Return the verdict after an exam of the candidate beside the champion; a candidate that cannot answer is
        refused.
        """
        try:
            exam = run_exam(asked, rows, *pair, tries=tries, names=names)
        except Refused as fault:
            return replace(verdict, reasons=(str(fault),))
        return replace(verdict, reasons=tuple(check_exam(asked, exam)), exam=exam)

    async def _emit(self, model: str, version: str, verdict: CandidateVerdict) -> None:
        data: dict[str, Any] = {"model": model, "version": version, "against": verdict.against}
        data |= {"reasons": list(verdict.reasons), "exam": None if verdict.exam is None else asdict(verdict.exam)}
        if verdict.rows is not None:
            data["rows"] = verdict.rows.document()
        kind = "candidate.refused.v1" if verdict.reasons else "candidate.passed.v1"
        event = TrialEvent(kind, f"models/{model}/versions/{version}", f"gates against {verdict.against}", data)
        try:
            await self._run(self._leader.emit, model, event)
        except Fault as fault:
            log.warning("an event could not be written: %s", fault)

    def _complain(self, model: str, version: str, reason: str) -> None:
        """Log why a version is not rolled out, once."""
        self._problem_log.report((model, version), f"model {model} version {version} is not rolled out: {reason}")


def _hash_gates(gates: Gates) -> str:
    """Return the digest of a set of gates: the result of an exam holds for the gates it was made for alone."""
    return hashlib.sha256(json.dumps(asdict(gates), sort_keys=True).encode()).hexdigest()[:16]


def _read_candidate(record: VersionRecord) -> CandidateFacts:
    return CandidateFacts(record.content.size, record.metadata, record.report.facts)


def _is_admitted(record: VersionRecord | None) -> bool:
    return record is not None and record.state is VersionState.ADMITTED
