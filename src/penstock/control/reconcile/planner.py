"""From what was found and what operators asked for to the desired state: pure functions over plain values."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from penstock.core.batching import NOT_EXAMINED, RowProof
from penstock.core.desired import Desired, ModelSpec, VersionSpec
from penstock.core.routing import RouteSpec
from penstock.core.versions import VersionKey, VersionPolicy, sort_key
from penstock.registry.records import Report

AVAILABILITY = "availability"
"""The transition that brings the new version in before the old one goes; the other one is ``resources``."""

UNLOADED = "unloaded"
NOT_CHOSEN = "the model's version policy leaves it out"
NO_VERSION = "it has no version to serve"


@dataclass(frozen=True, slots=True)
class Materialized:
    """One version's content where its source has laid it out.

    ``path`` is the graph; ``tag`` changes with anything that would have to be loaded anew; ``folder`` is where label
    and warm-up files lie. ``files`` are the paths below ``root`` and their SHA-256 (hex), which workers check before
    they load; ``probes`` (JSON) is what admission saw the graph answer, ``rows`` whether it found that rows are
    independent; ``digest`` names the content to people, ``report`` is what they are told of its admission. ``content``
    names the copy that the files are in ("" = they are no copy); ``features`` is what its graph or its model card calls
    the features.
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
    report: Report | None = None
    content: str = ""
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """One model as its source has it.

    ``broken`` names versions that cannot be served, with the reason; ``problem`` says why nothing of the model can
    ("" = it can). ``refused`` says of versions why their newest content is not taken, while the one before it still
    is. ``details`` are the whole reasons for operators, by version ("" = the model), where those leave something out.
    ``aliases`` and ``route`` are as they should be; ``transition`` and ``keep_warm_s`` as in the model's settings.
    """

    name: str
    versions: Mapping[str, Materialized] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    problem: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    transition: str = AVAILABILITY
    keep_warm_s: float = 0.0
    route: RouteSpec | None = None
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the desired state rests on beside the models themselves, and what outlives a control process.

    ``blocks`` gives each version its counter block until it has been gone for a while; ``unloaded`` are models an
    operator took out; ``configs`` are configurations an operator put in the place of the model's own; ``attempts``
    counts repeated attempts to load a model whose content did not change; ``quarantine`` names versions that are
    not to be loaded, with the reason. ``serving`` is what was desired last, ``warm`` until when (seconds since the
    epoch) what the policy has let go stays loaded, ``aliases`` where each model's aliases led last.
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
class Observed:
    """What a plan depends on beside models and ledger: the time (seconds since the epoch), the versions that every
    worker has ready, and those whose counter blocks nobody uses any more."""

    now: float = 0.0
    ready: Collection[VersionKey] = ()
    reusable: Collection[VersionKey] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A desired state, the ledger that belongs to it, and the counter blocks to clear before it is published."""

    desired: Desired
    ledger: Ledger
    cleared: tuple[int, ...] = ()


def plan(models: Sequence[Found], ledger: Ledger, last_block: int, seen: Observed = Observed()) -> Plan:
    """The desired state for these models.

    Blocks 1 to ``last_block`` are cleared before they are given out; when they have run out, those of the reusable
    versions (nobody serves or counts them any more) are given out again.
    """
    ordered = sorted(models, key=lambda one: one.name)
    aliases = {model.name: _aliases(model, ledger, seen) for model in ordered if model.aliases}
    warm = {key: until for model in ordered for key, until in _warm(model, ledger, aliases, seen.now).items()}
    wanted = {
        model.name: (*chosen(model, ledger, aliases), *(version for name, version in warm if name == model.name))
        for model in ordered
    }
    keys = frozenset((name, version) for name, versions in wanted.items() for version in versions)
    blocks = _Blocks(dict(ledger.blocks), last_block, [key for key in seen.reusable if key not in keys])
    specs = tuple(_model(model, wanted[model.name], ledger, aliases.get(model.name, {}), blocks) for model in ordered)
    desired = Desired(ledger.revision + 1, specs)
    revised = replace(ledger, revision=desired.revision, blocks=blocks.given, serving=keys, warm=warm, aliases=aliases)
    return Plan(desired, revised, tuple(blocks.cleared))


def _aliases(model: Found, ledger: Ledger, seen: Observed) -> dict[str, str]:
    """Where each alias leads: its version, or still the one before it until every worker has the new one ready."""
    before = ledger.aliases.get(model.name, {})
    return {alias: _led(model, before.get(alias), version, seen) for alias, version in model.aliases.items()}


def _led(model: Found, before: str | None, version: str, seen: Observed) -> str:
    if before is None or before not in model.versions or model.transition != AVAILABILITY:
        return version
    return version if (model.name, version) in seen.ready else before


def _warm(
    model: Found, ledger: Ledger, aliases: Mapping[str, Mapping[str, str]], now: float
) -> dict[VersionKey, float]:
    """Versions that were served until now and are not chosen any more, each with the time it may stay."""
    if model.problem or model.name in ledger.unloaded or model.transition != AVAILABILITY:
        return {}
    picked = chosen(model, ledger, aliases)
    left = [key for key in sorted(ledger.serving) if key[0] == model.name and key[1] not in picked]
    stays = {key: ledger.warm.get(key, now + model.keep_warm_s) for key in left if key not in ledger.quarantine}
    return {key: until for key, until in stays.items() if until > now and key[1] in model.versions}


class _Blocks:
    """Counter blocks being given out."""

    def __init__(self, given: dict[VersionKey, int], last: int, reusable: list[VersionKey]) -> None:
        self.given = given
        self.cleared: list[int] = []
        self._reusable = [key for key in reusable if key in given]
        taken = set(given.values())
        self._free = [block for block in range(last, 0, -1) if block not in taken]

    def of(self, key: VersionKey) -> int | None:
        """The version's own block, None if they have run out."""
        if key not in self.given:
            if not self._free and self._reusable:
                self._free.append(self.given.pop(self._reusable.pop()))
            if not self._free:
                return None
            self.given[key] = self._free.pop()
            self.cleared.append(self.given[key])  # whoever had it before: a version begins to count at nothing
        return self.given[key]


def _model(
    model: Found, wanted: Sequence[str], ledger: Ledger, aliases: Mapping[str, str], blocks: _Blocks
) -> ModelSpec:
    unavailable, versions = _unavailable(model, ledger, aliases), []
    for version in sorted(wanted, key=sort_key):
        block = blocks.of((model.name, version))
        if block is None:
            unavailable[version] = "no counter block is free; serve fewer versions"
        else:
            versions.append(_spec(model, version, block, ledger))
    return ModelSpec(model.name, tuple(versions), dict(aliases), unavailable, model.transition, model.route)


def chosen(model: Found, ledger: Ledger, aliases: Mapping[str, Mapping[str, str]] | None = None) -> tuple[str, ...]:
    """The versions of a model that are to be served, oldest first: the policy's, an alias's or a route's."""
    if model.problem or model.name in ledger.unloaded:
        return ()
    picked = _picked(model, (aliases or {}).get(model.name, {}))
    return tuple(version for version in picked if (model.name, version) not in ledger.quarantine)


def _picked(model: Found, aliases: Mapping[str, str]) -> list[str]:
    routed = set() if model.route is None else model.route.receivers()
    named = {*model.aliases.values(), *aliases.values(), *routed} & model.versions.keys()
    return sorted({*model.policy.choose(model.versions), *named}, key=sort_key)


def _unavailable(model: Found, ledger: Ledger, aliases: Mapping[str, str]) -> dict[str, str]:
    """Every version that should be served and cannot be, with the reason; "" stands for a model without any version.

    What the version policy leaves out does not exist for callers.
    """
    picked = _picked(model, aliases)
    versions = (*picked, *model.broken)
    if model.problem:
        return dict.fromkeys(versions or ("",), model.problem)
    if model.name in ledger.unloaded:
        return dict.fromkeys(versions or ("",), UNLOADED)
    ill = {v: ledger.quarantine[model.name, v] for v in picked if (model.name, v) in ledger.quarantine}
    reasons = {**ill, **model.broken}
    return reasons if picked or reasons else {"": NOT_CHOSEN if model.versions else NO_VERSION}


def _spec(model: Found, version: str, block: int, ledger: Ledger) -> VersionSpec:
    placed = model.versions[version]
    config = hashlib.sha256(placed.config.encode()).hexdigest()[:12]
    return VersionSpec(
        version,
        placed.path,
        placed.folder,
        placed.config,
        block,
        tag=f"{placed.tag}-{config}-{ledger.attempts.get(model.name, 0)}",
        root=placed.root,
        files=placed.files,
        probes=placed.probes,
        rows=placed.rows,
    )


def next_expiry(ledger: Ledger) -> float | None:
    """When the first version that is only kept warm has to go (seconds since the epoch), None if there is none."""
    return min(ledger.warm.values(), default=None)


def pending(models: Iterable[Found], ledger: Ledger) -> bool:
    """Whether an alias waits for its version to be ready."""
    return any(
        ledger.aliases.get(model.name, {}).get(alias) != version
        for model in models
        for alias, version in model.aliases.items()
    )


def ledger_out(ledger: Ledger) -> dict[str, Any]:
    """A ledger as JSON values."""
    return {
        **asdict(ledger),
        "blocks": [[*key, block] for key, block in ledger.blocks.items()],
        "unloaded": sorted(ledger.unloaded),
        "quarantine": [[*key, reason] for key, reason in ledger.quarantine.items()],
        "serving": sorted(ledger.serving),
        "warm": [[*key, until] for key, until in ledger.warm.items()],
    }


def ledger_in(values: Mapping[str, Any]) -> Ledger:
    """A ledger from its JSON values; missing ones are as at the beginning."""
    return Ledger(
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
