"""Plans the desired state from the models that a source has and from what operators asked for; pure functions."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from penstock.core.batching import NOT_EXAMINED, RowProof
from penstock.core.desired import Desired, ModelSpec, VersionSpec
from penstock.core.frames.terms import Default, RowTerms
from penstock.core.model_memory import MemoryNeed, exclude_versions
from penstock.core.model_signing import UNSIGNED, SignedFiles
from penstock.core.routing import RouteSpec
from penstock.core.version_gates import withheld_by_default
from penstock.core.versions import VersionKey, VersionPolicy, sort_key
from penstock.registry.records import AdmissionReport

AVAILABILITY = "availability"
"""The transition that loads the new version before it unloads the old one; the other one is ``resources``."""

MOST_UNLOADED = 10_000
"""Unloaded models that are remembered although their source does not have them at the moment."""

UNLOADED = "unloaded"
NOT_CHOSEN = "the model's version policy leaves it out"
NO_VERSION = "it has no version to serve"


@dataclass(frozen=True, slots=True)
class MaterializedVersion:
    """The content of one version where its source has materialized it.

    ``path`` is the graph; ``tag`` changes with anything that requires a reload; ``folder`` holds the label and warm-up
    files. ``files`` are the paths below ``root`` and their SHA-256 (hex), which workers check before they load.
    ``probes`` (JSON) holds the answers that admission recorded; ``rows`` says whether admission found the rows to be
    independent. ``digest`` is the content's public name, ``report`` its admission report. ``content`` names the copy
    that holds the files ("" = they are not a copy); ``features`` are the feature names of the graph or model card, and
    ``defaults`` the values of the card that stand in for missing ones. ``signed`` is what its signatures are about.
    """

    path: str
    tag: str
    folder: str = ""
    config: str = ""
    root: str = ""
    files: tuple[tuple[str, str], ...] = ()
    probes: str = ""
    rows: RowProof = NOT_EXAMINED
    digest: str = ""
    memory_bytes: int = 0
    report: AdmissionReport | None = None
    content: str = ""
    features: tuple[str, ...] = ()
    defaults: Mapping[str, Default] = field(default_factory=dict)
    signed: SignedFiles = UNSIGNED


@dataclass(frozen=True, slots=True)
class SourceModel:
    """One model as its source offers it.

    ``broken`` maps versions that cannot be served to the reason; ``problem`` says why no version can ("" = some can).
    ``refused`` maps versions whose newest content is rejected, while older content still serves, to the reason.
    ``details`` are full reasons for operators, by version ("" = the model), where the public reason omits something.
    ``aliases`` and ``route`` are the desired ones; ``withheld`` are versions that do not pass their gates;
    ``transition`` and ``keep_warm_s`` (seconds) are model settings.
    """

    name: str
    versions: Mapping[str, MaterializedVersion] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    problem: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    transition: str = AVAILABILITY
    keep_warm_s: float = 0.0
    route: RouteSpec | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    withheld: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class ControllerState:
    """The controller's inputs beside the models themselves; it is stored, so that it outlives a control process.

    ``blocks`` gives each version its counter block until some time after the version is removed; ``unloaded`` are
    models that an operator unloaded; ``configs`` are configurations that operators gave in place of the models' own;
    ``attempts`` counts repeated attempts to load unchanged content; ``quarantine`` maps versions that must not be
    loaded to the reason. ``serving`` holds the versions desired last; ``warm`` says until when (seconds since the
    epoch) versions that the policy dropped stay loaded; ``aliases`` are the targets of each model's aliases.
    """

    revision: int = 0
    blocks: Mapping[VersionKey, int] = field(default_factory=dict)
    unloaded: frozenset[str] = frozenset()
    configs: Mapping[str, str] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    quarantine: Mapping[VersionKey, str] = field(default_factory=dict)
    serving: frozenset[VersionKey] = frozenset()
    warm: Mapping[VersionKey, float] = field(default_factory=dict)
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ObservedState:
    """What a plan depends on beside models and state: the time (seconds since the epoch), the versions that are ready
    at every worker, the versions whose counter blocks are unused, and the memory for the models of a worker in bytes
    (None for no limit)."""

    now: float = 0.0
    ready: Collection[VersionKey] = ()
    reusable: Collection[VersionKey] = ()
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ReconcilePlan:
    """A desired state, its controller state, and the counter blocks to clear before publishing it."""

    desired: Desired
    state: ControllerState
    cleared: tuple[int, ...] = ()


def plan(
    models: Sequence[SourceModel], state: ControllerState, last_block: int, observed: ObservedState = ObservedState()
) -> ReconcilePlan:
    """Plan the desired state for these models.

    Blocks 1 to ``last_block`` are cleared before they are allocated; when none is free, the blocks of the reusable
    versions (no worker serves or counts them) are allocated again.
    """
    ordered = sorted(models, key=lambda item: item.name)
    aliases = {model.name: _find_aliases(model, state, observed) for model in ordered if model.aliases}
    warm = {key: until for model in ordered for key, until in _find_warm(model, state, aliases, observed.now).items()}
    chosen = {model.name: choose_versions(model, state, aliases) for model in ordered}
    excluded = _exclude(ordered, chosen, warm, state, observed.memory_bytes)
    wanted = {
        model.name: tuple(
            version
            for version in (*chosen[model.name], *(version for name, version in warm if name == model.name))
            if (model.name, version) not in excluded
        )
        for model in ordered
    }
    keys = frozenset((name, version) for name, versions in wanted.items() for version in versions)
    blocks = _BlockAllocator(dict(state.blocks), last_block, [key for key in observed.reusable if key not in keys])
    specs = tuple(
        _without_excluded(
            _plan_model(model, wanted[model.name], state, aliases.get(model.name, {}), blocks), excluded, chosen
        )
        for model in ordered
    )
    desired = Desired(state.revision + 1, specs)
    revised = replace(
        state,
        revision=desired.revision,
        blocks=blocks.allocated,
        unloaded=_remember_unloaded(state.unloaded, models),
        serving=keys,
        warm=warm,
        aliases=aliases,
    )
    return ReconcilePlan(desired, revised, tuple(blocks.cleared))


def _remember_unloaded(unloaded: frozenset[str], models: Iterable[SourceModel]) -> frozenset[str]:
    """Return the unloaded models, without those that the source no longer has where they are many."""
    return unloaded if len(unloaded) <= MOST_UNLOADED else unloaded.intersection(model.name for model in models)


def _exclude(
    models: Sequence[SourceModel],
    chosen: Mapping[str, Sequence[str]],
    warm: Collection[VersionKey],
    state: ControllerState,
    limit: int | None,
) -> Mapping[VersionKey, str]:
    """The versions for which there is no memory, with the reason: what serves comes first, and what is only kept warm
    last."""
    if limit is None:
        return {}
    versions = {(model.name, version): item for model in models for version, item in model.versions.items()}
    keys = [(name, version) for name, picked in chosen.items() for version in picked]
    needs = [MemoryNeed(key, versions[key].memory_bytes, 0 if key in state.serving else 1) for key in keys]
    needs += [MemoryNeed(key, versions[key].memory_bytes, 2) for key in warm]
    return exclude_versions(needs, limit)


def _without_excluded(
    spec: ModelSpec, excluded: Mapping[VersionKey, str], chosen: Mapping[str, Sequence[str]]
) -> ModelSpec:
    """The model with the reasons of its chosen versions for which there is no memory."""
    reasons = {version: why for (name, version), why in excluded.items() if name == spec.name}
    stated = {version: why for version, why in reasons.items() if version in chosen[spec.name]}
    if not stated:
        return spec
    return replace(spec, unavailable={**spec.unavailable, **stated}, exhausted=(*spec.exhausted, *stated))


def _find_aliases(model: SourceModel, state: ControllerState, observed: ObservedState) -> dict[str, str]:
    """The target of each alias: its version, or the previous one until every worker has the new one ready."""
    before = state.aliases.get(model.name, {})
    return {
        alias: _alias_target(model, before.get(alias), version, observed) for alias, version in model.aliases.items()
    }


def _alias_target(model: SourceModel, before: str | None, version: str, observed: ObservedState) -> str:
    if before is None or before not in model.versions or model.transition != AVAILABILITY:
        return version
    return version if (model.name, version) in observed.ready else before


def _find_warm(
    model: SourceModel, state: ControllerState, aliases: Mapping[str, Mapping[str, str]], now: float
) -> dict[VersionKey, float]:
    """Versions that were served until now and are not chosen any more, each with the time it may stay."""
    if model.problem or model.name in state.unloaded or model.transition != AVAILABILITY:
        return {}
    picked = choose_versions(model, state, aliases)
    left = [key for key in sorted(state.serving) if key[0] == model.name and key[1] not in picked]
    stays = {key: state.warm.get(key, now + model.keep_warm_s) for key in left if key not in state.quarantine}
    return {key: until for key, until in stays.items() if until > now and key[1] in model.versions}


class _BlockAllocator:
    """The allocator of counter blocks for one plan."""

    def __init__(self, allocated: dict[VersionKey, int], last: int, reusable: list[VersionKey]) -> None:
        self.allocated = allocated
        self.cleared: list[int] = []
        self._reusable = [key for key in reusable if key in allocated]
        taken = set(allocated.values())
        self._free = [block for block in range(last, 0, -1) if block not in taken]

    def of(self, key: VersionKey) -> int | None:
        """The block of a version, newly allocated if it has none; None if no block is free."""
        if key not in self.allocated:
            if not self._free and self._reusable:
                self._free.append(self.allocated.pop(self._reusable.pop()))
            if not self._free:
                return None
            self.allocated[key] = self._free.pop()
            self.cleared.append(
                self.allocated[key]
            )  # a version starts to count at zero, whichever version had the block before
        return self.allocated[key]


def _plan_model(
    model: SourceModel,
    wanted: Sequence[str],
    state: ControllerState,
    aliases: Mapping[str, str],
    blocks: _BlockAllocator,
) -> ModelSpec:
    unavailable, versions, exhausted = _find_unavailable(model, state, aliases), [], []
    for version in sorted(wanted, key=sort_key):
        block = blocks.of((model.name, version))
        if block is None:
            unavailable[version] = "no counter block is free; serve fewer versions"
            exhausted.append(version)
        else:
            versions.append(_plan_version(model, version, block, state))
    return ModelSpec(
        model.name,
        tuple(versions),
        dict(aliases),
        unavailable,
        model.transition,
        model.route,
        withheld=tuple(sorted(withheld_by_default(model.withheld, model.route, aliases.values()), key=sort_key)),
        exhausted=tuple(exhausted),
    )


def choose_versions(
    model: SourceModel, state: ControllerState, aliases: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[str, ...]:
    """The versions of a model to serve, oldest first: those of its policy, its aliases and its route."""
    if model.problem or model.name in state.unloaded:
        return ()
    picked = _pick_versions(model, (aliases or {}).get(model.name, {}))
    return tuple(version for version in picked if (model.name, version) not in state.quarantine)


def _pick_versions(model: SourceModel, aliases: Mapping[str, str]) -> list[str]:
    routed = set() if model.route is None else model.route.receivers()
    aliased = {*model.aliases.values(), *aliases.values(), *routed} & model.versions.keys()
    return sorted({*model.policy.choose(model.versions), *aliased}, key=sort_key)


def _find_unavailable(model: SourceModel, state: ControllerState, aliases: Mapping[str, str]) -> dict[str, str]:
    """Every version that should be served and cannot be, with the reason; "" stands for a model without versions.

    Versions that the version policy excludes do not exist for callers.
    """
    picked = _pick_versions(model, aliases)
    versions = (*picked, *model.broken)
    if model.problem:
        return dict.fromkeys(versions or ("",), model.problem)
    if model.name in state.unloaded:
        return dict.fromkeys(versions or ("",), UNLOADED)
    quarantined = {v: state.quarantine[model.name, v] for v in picked if (model.name, v) in state.quarantine}
    reasons = {**quarantined, **model.broken}
    return reasons if picked or reasons else {"": NOT_CHOSEN if model.versions else NO_VERSION}


def _plan_version(model: SourceModel, version: str, block: int, state: ControllerState) -> VersionSpec:
    placed = model.versions[version]
    config = hashlib.sha256(placed.config.encode()).hexdigest()[:12]
    return VersionSpec(
        version,
        placed.path,
        placed.folder,
        placed.config,
        block,
        tag=f"{placed.tag}-{config}-{state.attempts.get(model.name, 0)}",
        root=placed.root,
        files=placed.files,
        probes=placed.probes,
        rows=placed.rows,
        signed=placed.signed,
        row_terms=RowTerms(placed.features, placed.defaults),
    )


def next_expiry(state: ControllerState) -> float | None:
    """When the first version that is only kept warm expires (seconds since the epoch), None if there is none."""
    return min(state.warm.values(), default=None)


def has_pending_alias(models: Iterable[SourceModel], state: ControllerState) -> bool:
    """Whether an alias still waits for its new version to become ready."""
    return any(
        state.aliases.get(model.name, {}).get(alias) != version
        for model in models
        for alias, version in model.aliases.items()
    )


def encode_controller_state(state: ControllerState) -> dict[str, Any]:
    """Encode the state as JSON values."""
    return {
        **asdict(state),
        "blocks": [[*key, block] for key, block in state.blocks.items()],
        "unloaded": sorted(state.unloaded),
        "quarantine": [[*key, reason] for key, reason in state.quarantine.items()],
        "serving": sorted(state.serving),
        "warm": [[*key, until] for key, until in state.warm.items()],
    }


def decode_controller_state(values: Mapping[str, Any]) -> ControllerState:
    """Decode the state from JSON values; missing ones take their defaults."""
    return ControllerState(
        revision=values.get("revision", 0),
        blocks={(model, version): block for model, version, block in values.get("blocks", [])},
        unloaded=frozenset(values.get("unloaded", [])),
        configs=values.get("configs", {}),
        attempts=values.get("attempts", {}),
        quarantine={(model, version): reason for model, version, reason in values.get("quarantine", [])},
        serving=frozenset((model, version) for model, version in values.get("serving", [])),
        warm={(model, version): until for model, version, until in values.get("warm", [])},
        aliases=values.get("aliases", {}),
    )
