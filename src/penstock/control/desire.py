"""From what was found and what operators asked for to the desired state: pure functions over plain values."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from penstock.core.desired import Desired, ModelSpec, VersionSpec
from penstock.core.versions import VersionPolicy

Key = tuple[str, str]

UNLOADED = "unloaded"
NOT_CHOSEN = "the model's version policy leaves it out"
NO_VERSION = "it has no version to serve"


@dataclass(frozen=True, slots=True)
class Found:
    """One model as its source has it: each version's graph and the tag of its content.

    ``broken`` names versions that cannot be served, with the reason; ``problem`` says why nothing of the model can
    ("" = it can).
    """

    name: str
    folder: str = ""
    paths: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the desired state rests on beside the models themselves, and what outlives a control process.

    ``blocks`` gives each version its counter block for the life of the instance; ``unloaded`` are models an operator
    took out; ``configs`` are configurations an operator put in the place of the model's own; ``attempts`` counts
    repeated attempts to load a model whose content did not change; ``quarantine`` names versions that are not to be
    loaded, with the reason.
    """

    revision: int = 0
    blocks: Mapping[Key, int] = field(default_factory=dict)
    unloaded: frozenset[str] = frozenset()
    configs: Mapping[str, str] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    quarantine: Mapping[Key, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A desired state, the ledger that belongs to it, and the counter blocks to clear before it is published."""

    desired: Desired
    ledger: Ledger
    cleared: tuple[int, ...] = ()


def plan(models: Sequence[Found], ledger: Ledger, last_block: int, reusable: Collection[Key] = ()) -> Plan:
    """The desired state for these models.

    Blocks 1 to ``last_block`` are given out once each; when they have run out, blocks of the ``reusable`` versions
    (nobody serves or counts them any more) are cleared and given out again.
    """
    wanted = {(model.name, version) for model in models for version in chosen(model, ledger)}
    blocks = _Blocks(dict(ledger.blocks), last_block, [key for key in reusable if key not in wanted])
    specs = tuple(_model(model, ledger, blocks) for model in sorted(models, key=lambda one: one.name))
    desired = Desired(ledger.revision + 1, specs)
    return Plan(desired, replace(ledger, revision=desired.revision, blocks=blocks.given), tuple(blocks.cleared))


class _Blocks:
    """Counter blocks being given out."""

    def __init__(self, given: dict[Key, int], last: int, reusable: list[Key]) -> None:
        self.given = given
        self.cleared: list[int] = []
        self._reusable = [key for key in reusable if key in given]
        taken = set(given.values())
        self._free = [block for block in range(last, 0, -1) if block not in taken]

    def of(self, key: Key) -> int | None:
        """The version's own block, None if they have run out."""
        if key not in self.given:
            if not self._free and self._reusable:
                self._free.append(self.given.pop(self._reusable.pop()))
                self.cleared.append(self._free[-1])
            if not self._free:
                return None
            self.given[key] = self._free.pop()
        return self.given[key]


def _model(model: Found, ledger: Ledger, blocks: _Blocks) -> ModelSpec:
    unavailable, versions = _unavailable(model, ledger), []
    for version in chosen(model, ledger):
        block = blocks.of((model.name, version))
        if block is None:
            unavailable[version] = "no counter block is free; serve fewer versions"
        else:
            versions.append(_spec(model, version, block, ledger))
    return ModelSpec(model.name, tuple(versions), {}, unavailable)


def chosen(model: Found, ledger: Ledger) -> tuple[str, ...]:
    """The versions of a model that are to be served, oldest first."""
    if model.problem or model.name in ledger.unloaded:
        return ()
    return tuple(v for v in model.policy.choose(model.paths) if (model.name, v) not in ledger.quarantine)


def _unavailable(model: Found, ledger: Ledger) -> dict[str, str]:
    """Every version that should be served and cannot be, with the reason; "" stands for a model without any version.

    What the version policy leaves out does not exist for callers.
    """
    picked = model.policy.choose(model.paths)
    versions = (*picked, *model.broken)
    if model.problem:
        return dict.fromkeys(versions or ("",), model.problem)
    if model.name in ledger.unloaded:
        return dict.fromkeys(versions or ("",), UNLOADED)
    ill = {v: ledger.quarantine[model.name, v] for v in picked if (model.name, v) in ledger.quarantine}
    reasons = {**ill, **model.broken}
    return reasons if picked or reasons else {"": NOT_CHOSEN if model.paths else NO_VERSION}


def _spec(model: Found, version: str, block: int, ledger: Ledger) -> VersionSpec:
    config = hashlib.sha256(model.config.encode()).hexdigest()[:12]
    tag = f"{model.tags[version]}-{config}-{ledger.attempts.get(model.name, 0)}"
    return VersionSpec(version, model.paths[version], model.folder, model.config, block, tag)


def ledger_out(ledger: Ledger) -> dict[str, Any]:
    """A ledger as JSON values."""
    return {
        **asdict(ledger),
        "blocks": [[*key, block] for key, block in ledger.blocks.items()],
        "unloaded": sorted(ledger.unloaded),
        "quarantine": [[*key, reason] for key, reason in ledger.quarantine.items()],
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
    )
