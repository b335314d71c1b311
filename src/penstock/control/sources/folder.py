"""Watched repositories as a source of models: versions whose files are settled and that were admitted are offered.

A version is copied before it is examined, and workers load the copy by its digests: so the served files are the
admitted ones, whatever happens to the repository. Where nothing can be written, nothing new is served.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from penstock.control.calls.blocking import BlockingPool
from penstock.control.periodic import ProblemLog
from penstock.control.reconcile.planner import MaterializedVersion, SourceModel
from penstock.control.reconcile.reconciler import NoModelsYet
from penstock.control.sources.repositories import Repositories, RepositoryModels, RepositoryState, SourceRepository
from penstock.core.errors import Fault, FaultReason, InvalidInput, NotReady, Overloaded
from penstock.core.model_signing import NO_SIGNATURES, SignaturePolicy
from penstock.core.versions import VersionKey
from penstock.registry.admission.row_proof import decode_proof
from penstock.registry.records import AdmissionExaminer, AdmissionReport
from penstock.registry.repository.copies import (
    PreparedVersion,
    RepositoryCopies,
    RepositoryVersion,
    VersionPreparer,
    is_intact,
)
from penstock.registry.repository.layout import FoundModel, files_of
from penstock.registry.repository.signed_copies import check_copy, signed_copy
from penstock.registry.repository.verdicts import CopyVerdict, VerdictCache

log = logging.getLogger("penstock.control")

MOMENT_S = 0.05
RETRY_S = 15.0
"""The pause before a version is examined again after a transient failure."""

THREADS = 8
LOOK_S = 120.0
COPY_S = 3600.0
"""Deadlines of one read of all repositories, and of one step with the files of a version."""

ARRIVING = "its files may still be on their way in"
BEING_EXAMINED = "it is being examined"
_PASSING = (ARRIVING, BEING_EXAMINED)
_SEVERAL = "the model is in several repositories; keep it in one of them"


@dataclass(frozen=True, slots=True)
class _ScannedVersion:
    """A version at the last scan: its tag, and since when (monotonic seconds) it has had it."""

    tag: str
    since: float


@dataclass(frozen=True, slots=True)
class _FolderVersion:
    """One version in a repository; ``tag`` changes with its files."""

    version: str
    source: RepositoryVersion
    tag: str

    @property
    def key(self) -> VersionKey:
        """Model and version."""
        return self.source.model.name, self.version


@dataclass(slots=True)
class _OfferedVersion:
    """What is offered of a version, its tag, and why its newest content is not offered (None = it is).

    After a transient failure, nothing is tried before ``again`` (monotonic seconds).
    """

    placed: MaterializedVersion | None = None
    tag: str = ""
    problem: FaultReason | None = None
    again: float = 0.0


@dataclass(slots=True)
class _FolderScan:
    """One read of the repositories: every known model, the versions in readable repositories, and the models
    (``kept``) of unreadable ones."""

    models: list[FoundModel] = field(default_factory=list)
    versions: list[_FolderVersion] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)


class FolderContents:
    """Offers the models of repositories; see ``reconciler.Source``. Belongs to the event loop. ``clock`` is monotonic,
    in seconds."""

    def __init__(
        self,
        repositories: Sequence[SourceRepository],
        admission: AdmissionExaminer,
        verdicts: VerdictCache,
        copies: RepositoryCopies,
        settle_s: float,
        clock: Callable[[], float] = time.monotonic,
        signatures: SignaturePolicy = NO_SIGNATURES,
    ) -> None:
        self._signatures = signatures
        self._repositories = Repositories(repositories)
        self._admission = admission
        self._verdicts = verdicts
        self._copies = copies
        self._settle_s = settle_s
        self._clock = clock
        self._problem_log = ProblemLog()
        self._logged: set[tuple[str, str, str]] = set()
        self._seen: dict[VersionKey, _ScannedVersion] = {}
        self._offers: dict[VersionKey, _OfferedVersion] = {}
        self._weights: dict[VersionKey, tuple[str, ...]] = {}
        self._tasks: dict[VersionKey, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(THREADS)  # a repository may hold more versions than calls of a pool may wait
        self._pool = BlockingPool("repositories", THREADS, "the repository", COPY_S)
        self.pools = (self._pool,)

    async def scan(self, settled_only: bool, retry: str = "") -> Sequence[SourceModel]:
        """Every model; ``settled_only`` takes new files only once they have stopped changing.

        Rejected versions of the model ``retry`` are examined again, and its copies are verified. Repositories that
        offer only requested models offer it from now on.

        Raises:
            InvalidInput: no repository exists, or none holds a model.
            NotReady: no repository is reachable, or not the one that may hold the model ``retry``. ``NoModelsYet``
                until one was read for the first time.
        """
        self._repositories.request(retry)
        look = await self._pool.call(self._scan_repositories, deadline_s=LOOK_S)
        self._refuse_unread(look, retry)
        now = self._clock()
        for version in look.versions:
            if retry == version.key[0]:
                await self._reconsider(version)
            self._notice(version, now, settled_only)
        self._forget(look)
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=MOMENT_S if settled_only else None)
        offered = {offer.placed.content for offer in self._offers.values() if offer.placed is not None}
        await self._pool.call(self._copies.sweep, offered)
        return [self._source_model(model) for model in look.models]

    # Looking.

    @property
    def states(self) -> Sequence[RepositoryState]:
        """The result of the last read of each repository."""
        return self._repositories.states

    def _scan_repositories(self) -> _FolderScan:
        try:
            holdings = self._repositories.read()
        except (InvalidInput, NotReady) as fault:
            if self._repositories.ever_read:
                raise
            raise NoModelsYet(str(fault), fault.detail) from None
        look = _FolderScan()
        pairs = [(holding, model) for holding in holdings for model in holding.models]
        homes: dict[str, list[str]] = {}
        for holding, model in pairs:
            homes.setdefault(model.name, []).append(holding.tree.name)
        for holding, model in pairs:
            self._take_model(look, holding, model, homes[model.name])
        look.models = list({model.name: model for model in look.models}.values())
        self._log_problems(look.models)
        return look

    def _take_model(
        self, look: _FolderScan, holding: RepositoryModels, model: FoundModel, homes: Sequence[str]
    ) -> None:
        if len(homes) > 1:
            problem = FaultReason(_SEVERAL, f"{_SEVERAL}: {', '.join(homes)}")
            look.models.append(FoundModel(model.name, model.folder, problem=problem))
            return
        look.models.append(model)
        if not holding.read:
            look.kept.add(model.name)
            return
        sources = {version: RepositoryVersion(holding.tree, model, graph) for version, graph in model.versions.items()}
        look.versions.extend(self._version(version, source) for version, source in sources.items())

    def _refuse_unread(self, look: _FolderScan, retry: str) -> None:
        """Refuse a request for a model that may be in an unreachable repository."""
        if not retry or retry in {model.name for model in look.models} - look.kept:
            return
        for fault in self._repositories.faults.values():
            if retry in look.kept or isinstance(fault, NotReady):
                raise fault

    def _version(self, version: str, source: RepositoryVersion) -> _FolderVersion:
        weights = self._weights.get((source.model.name, version), ())
        digest = hashlib.sha256(source.model.config.encode())
        for path, tag in files_of(source.tree, source.model, source.graph, weights):
            digest.update(f"{path}\0{tag}\0".encode("utf-8", "replace"))
        return _FolderVersion(version, source, digest.hexdigest()[:32])

    def _log_problems(self, models: Iterable[FoundModel]) -> None:
        """Log models that cannot be served and files that are ignored, each once until it changes."""
        problems = set()
        for model in models:
            reasons = model.broken if model.problem is None else {"": model.problem}
            problems |= {(model.name, version, why.full_text) for version, why in reasons.items()}
            problems |= {(model.name, "", note) for note in model.notes}
        for name, version, why in sorted(problems - self._logged):
            log.error("model %s%s: %s", name, f" version {version}" if version else "", why)
        self._logged = problems

    def _forget(self, look: _FolderScan) -> None:
        """Forget versions that no longer exist; keep everything of models that cannot be read now."""
        present = {version.key for version in look.versions}
        unread = {model.name for model in look.models if model.problem is not None} | look.kept
        for key in [key for key in self._seen if key not in present and key[0] not in unread]:
            del self._seen[key]
            self._offers.pop(key, None)
            self._weights.pop(key, None)

    # Examining.

    def _notice(self, version: _FolderVersion, now: float, settled_only: bool) -> None:
        """Start the examination of a version if one is due."""
        scanned = self._seen.get(version.key)
        if scanned is None or scanned.tag != version.tag:
            scanned = self._seen[version.key] = _ScannedVersion(version.tag, now)
        offer = self._offers.setdefault(version.key, _OfferedVersion(problem=FaultReason(ARRIVING)))
        if (offer.placed is not None and offer.tag == version.tag) or version.key in self._tasks:
            return
        if settled_only and (now - scanned.since < self._settle_s or now < offer.again):
            return
        if (verdict := self._verdicts.of(version.tag)) is not None and self._is_there(verdict):
            self._judge(version.tag, version, verdict)
            return
        offer.problem = FaultReason(BEING_EXAMINED)
        task = self._tasks[version.key] = asyncio.create_task(self._examine(version))
        task.add_done_callback(lambda _: self._tasks.pop(version.key))

    def _is_there(self, verdict: CopyVerdict) -> bool:
        piece = verdict.piece
        return not verdict.report.admitted or self._copies.find(piece.content) is not None

    async def _reconsider(self, version: _FolderVersion) -> None:
        """Have a version examined again if it was rejected, or if its copy is damaged."""
        verdict = self._verdicts.of(version.tag)
        if verdict is not None and (not verdict.report.admitted or not await self._pool.call(is_intact, verdict.piece)):
            self._verdicts.forget(version.tag)
            self._offers.pop(version.key, None)

    async def _examine(self, version: _FolderVersion) -> None:
        async with self._turns:
            await self._examine_now(version)

    async def _examine_now(self, version: _FolderVersion) -> None:
        offer = self._offers.setdefault(version.key, _OfferedVersion())
        try:
            verdict = await self._verdict(version)
        except (NotReady, Overloaded) as fault:
            offer.problem, offer.again = fault.reason, self._clock() + RETRY_S
            text = "model {} version {} cannot be examined now; the next scan retries it: {}".format(
                *version.key, fault.full_text
            )
            self._problem_log.report(version.key, text, fault)
        except Exception as error:
            self._problem_log.report(version.key, "model {} version {} cannot be examined".format(*version.key), error)
            offer.problem, offer.again = FaultReason("it cannot be examined"), self._clock() + RETRY_S
        else:
            if verdict is not None:  # else its files changed meanwhile, and the next scan starts over
                self._seen[version.key] = replace(self._seen[version.key], tag=verdict.tag)
                self._verdicts.keep(verdict.tag, verdict.verdict)
                self._judge(verdict.tag, version, verdict.verdict)

    async def _verdict(self, version: _FolderVersion) -> "_VersionVerdict | None":
        """The verdict of admission on a version; None if its files changed meanwhile."""
        try:
            work = await self._pool.call(self._copies.begin, version.source)
            try:
                return await self._run_preparer(version, work)
            finally:
                await self._pool.call(work.close)
        except (NotReady, Overloaded):
            raise
        except Fault as fault:  # final until its files change
            nothing = PreparedVersion(Path(), "", "", (), "")
            return _VersionVerdict(
                version.tag, CopyVerdict(AdmissionReport(str(fault), {}, fault.detail), nothing, version.tag)
            )

    async def _run_preparer(self, version: _FolderVersion, work: VersionPreparer) -> "_VersionVerdict | None":
        plan = await self._admission.plan(await self._pool.call(work.take_graph))
        followed = await self._pool.call(self._with_weight_files, version, plan.weights)
        if followed is None:
            return None
        if plan.refusal is not None:
            piece = await self._pool.call(work.finish)
            return _VersionVerdict(followed.tag, CopyVerdict(plan.refusal, piece, _hash_content(piece, version)))
        subject = await self._pool.call(work.take_rest, plan)
        piece = await self._pool.call(work.finish)
        await self._pool.call(check_copy, self._signatures, version.key, piece, version.source)
        content = _hash_content(piece, version)
        cached = self._verdicts.report_on(content)
        report = cached or plan.completed(await self._admission.examine(subject))
        if (await self._pool.call(self._version, version.version, version.source)).tag != followed.tag:
            return None
        if report.admitted:
            piece = await self._pool.call(work.keep, piece)
        return _VersionVerdict(followed.tag, CopyVerdict(report, piece, content))

    def _with_weight_files(self, version: _FolderVersion, weights: tuple[str, ...]) -> _FolderVersion | None:
        """The version with a tag that includes its weight files; None if its files changed."""
        if self._version(version.version, version.source).tag != version.tag:
            return None
        self._weights[version.key] = weights
        return self._version(version.version, version.source)

    # Offering.

    def _judge(self, tag: str, version: _FolderVersion, verdict: CopyVerdict) -> None:
        offer = self._offers.setdefault(version.key, _OfferedVersion())
        report = verdict.report
        if report.admitted:
            offer.placed, offer.tag, offer.problem = _make_materialized(tag, version, verdict), tag, None
        elif offer.problem != FaultReason(report.reason, report.detail):
            offer.problem = FaultReason(report.reason, report.detail)
            log.error("model %s version %s is not admitted: %s", *version.key, report.whole)

    def _source_model(self, model: FoundModel) -> SourceModel:
        offers = {version: self._offers[model.name, version] for version in model.versions}
        versions = {version: offer.placed for version, offer in offers.items() if offer.placed is not None}
        problems = {version: offer.problem for version, offer in offers.items() if offer.problem is not None}
        broken = {**model.broken, **{version: why for version, why in problems.items() if version not in versions}}
        refused = {
            version: why for version, why in problems.items() if version in versions and why.text not in _PASSING
        }
        reasons = {**broken, **refused, **({"": model.problem} if model.problem else {})}
        return SourceModel(
            model.name,
            versions,
            {version: why.text for version, why in broken.items()},
            model.policy,
            model.problem.text if model.problem else "",
            {version: why.text for version, why in refused.items()},
            details={version: why.detail for version, why in reasons.items() if why.detail},
        )


def is_passing(model: SourceModel) -> bool:
    """Whether a version of a model is still being copied or examined."""
    return any(why in _PASSING for why in model.broken.values())


@dataclass(frozen=True, slots=True)
class _VersionVerdict:
    """A verdict, and the tag of its files."""

    tag: str
    verdict: CopyVerdict


def _hash_content(piece: PreparedVersion, version: _FolderVersion) -> str:
    """The digest of the files and the configuration that a verdict is about."""
    parts = json.dumps([piece.graph, piece.files, version.source.model.config])
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def _make_materialized(tag: str, version: _FolderVersion, verdict: CopyVerdict) -> MaterializedVersion:
    facts, piece = verdict.report.facts, verdict.piece
    return MaterializedVersion(
        path=str(piece.root / piece.graph),
        tag=piece.content or tag,
        folder=str(piece.root / piece.model),
        config=version.source.model.config,
        root=str(piece.root),
        files=piece.files,
        probes=json.dumps(facts["probes"]) if facts.get("probes") else "",
        rows=decode_proof(facts),
        digest=piece.digest,
        memory_bytes=int(facts.get("memory_bytes", 0)),
        report=verdict.report,
        content=piece.content,
        features=tuple(facts.get("feature_names") or ()),
        signed=signed_copy(piece, version.source),
    )
