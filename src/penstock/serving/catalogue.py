"""The immutable picture of what a worker serves; a request reads it once, a change replaces it whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock.core.desired import ModelSpec, State, VersionStatus
from penstock.core.errors import Fault, NotFound, NotReady
from penstock.core.labels import Route
from penstock.core.versions import sort_key
from penstock.serving.served import Served

CHAMPION = "champion"
Answer = tuple[Served, Route]
Target = tuple[str, str]
"""A model and a version, an alias or ""."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model: ``answers`` maps everything a request may say for a version, "" included, to who answers."""

    name: str
    ready: tuple[str, ...]
    answers: Mapping[str, Answer]
    statuses: Mapping[str, VersionStatus]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def refusal(self, asked: str) -> Fault:
        """Why nobody answers for this version or alias."""
        version = self.aliases.get(asked, asked)
        if version and version not in self.statuses:
            return NotFound(f"model '{self.name}' has no version '{shortened(version)}'")
        if version:
            status = self.statuses[version]
            because = status.reason or status.state.lower()
            return NotReady(f"model '{self.name}' version '{version}' is not ready: {because}")
        reasons = sorted({status.reason or status.state.lower() for status in self.statuses.values()})
        return NotReady(f"model '{self.name}' is not ready: {'; '.join(reasons) or 'no version is served'}")


class Catalogue:
    """Every model that is known; ``answers`` holds all models' answers, so that a request reads one dictionary."""

    __slots__ = ("answers", "models")

    def __init__(self, models: Mapping[str, ModelEntry] = MappingProxyType({})) -> None:
        self.models = models
        self.answers: dict[Target, Answer] = {
            (name, version): answer for name, entry in models.items() for version, answer in entry.answers.items()
        }

    def entry(self, model: str) -> ModelEntry:
        """The entry of a model.

        Raises:
            NotFound: no such model.
        """
        entry = self.models.get(model)
        if entry is None:
            raise NotFound(f"unknown model '{shortened(model)}'")
        return entry

    def find(self, target: Target) -> Answer:
        """Who answers a request for this model and version ("" leaves the choice to us).

        Raises:
            NotFound: no such model or version.
            NotReady: known, but not able to answer.
        """
        answer = self.answers.get(target)
        if answer is None:
            model, version = target
            raise self.entry(model).refusal(version)
        return answer


def shortened(text: str) -> str:
    """A caller's word as an error may repeat it."""
    return text if len(text) <= 128 else text[:125] + "..."


def model_entry(spec: ModelSpec, served: Mapping[str, Served], statuses: Mapping[str, VersionStatus]) -> ModelEntry:
    """Lay out one model's answers: by version, by alias, and the default (champion, else the newest ready one)."""
    ready = tuple(sorted(served, key=sort_key))
    answers: dict[str, Answer] = {version: (served[version], Route.PINNED) for version in ready}
    for alias, version in spec.aliases.items():
        if version in served:
            answers[alias] = (served[version], Route.PINNED)
    if ready:
        default = answers[CHAMPION][0] if CHAMPION in answers else served[ready[-1]]
        answers[""] = (default, Route.STABLE)
    known = {
        version: VersionStatus(spec.name, version, State.UNAVAILABLE, reason)
        for version, reason in spec.unavailable.items()
    }
    return ModelEntry(spec.name, ready, answers, {**known, **statuses}, spec.aliases)
