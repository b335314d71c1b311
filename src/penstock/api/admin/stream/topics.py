"""The topics of a stream, and what of their documents a caller may see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock.api.admin.visible_fleet import visible_fleet
from penstock.core.access.model_filter import ModelFilter
from penstock.core.errors import InvalidInput

Document = Mapping[str, Any]

LISTS: Final = ("models", "overview", "traffic", "fleet", "readiness", "workers", "timeline", "events")
OF_MODEL: Final = ("model", "traffic", "route", "rollouts", "experiments", "monitor", "retraining")
"""Topics of all models, and topics of one model, such as ``route:fraud``."""

MOST_TOPICS: Final = 16
LONGEST_NAME: Final = 200

_KNOWN: Final = ", ".join((*LISTS, *(f"{kind}:MODEL" for kind in OF_MODEL)))


@dataclass(frozen=True, slots=True)
class Topic:
    """One document that a stream shows; ``model`` is "" for a list of all models."""

    kind: str
    model: str = ""

    def __str__(self) -> str:
        """Return the topic as clients write it."""
        return f"{self.kind}:{self.model}" if self.model else self.kind


_FILTERED: Final = frozenset(Topic(kind) for kind in ("models", "overview", "traffic", "fleet", "timeline"))
"""Topics with parts of several models; a caller sees those of some."""


def parse_topics(text: str) -> tuple[Topic, ...]:
    """Return the topics of a list with commas between them, each once.

    Raises:
        InvalidInput: there are none, too many, or unknown ones.
    """
    names = list(dict.fromkeys(name for name in text.split(",") if name))
    if not names:
        raise InvalidInput(f"state 'topics' as a list with commas; topics are {_KNOWN}")
    if len(names) > MOST_TOPICS:
        raise InvalidInput(f"a stream has at most {MOST_TOPICS} topics")
    return tuple(_parse(name) for name in names)


def _parse(name: str) -> Topic:
    kind, colon, model = name.partition(":")
    known = kind in OF_MODEL and model if colon else kind in LISTS
    if not known or len(name) > LONGEST_NAME or not name.isprintable():
        shown = name[:LONGEST_NAME] if name.isprintable() else "with control characters"
        raise InvalidInput(f"there is no topic '{shown}'; topics are {_KNOWN}")
    return Topic(kind, model)


def filter_of_topic(topic: Topic, visible: ModelFilter) -> ModelFilter:
    """Return what decides how the document of a topic looks to a caller: callers with equal filters see the same."""
    return visible if topic in _FILTERED else ModelFilter()


def visible_part(topic: Topic, document: Document, visible: ModelFilter) -> Document:
    """Return what a caller may see of a document; whoever may not read the model of a topic gets no stream of it."""
    if visible.is_everything:
        return document
    if topic.kind in ("models", "overview"):
        return {**document, "models": [model for model in document["models"] if visible.allows(model["name"])]}
    if topic.kind == "fleet":
        return visible_fleet(document, visible)
    models = document["models"].items()
    return {**document, "models": {name: model for name, model in models if visible.allows(name)}}


def lasting_part(topic: Topic, document: Document) -> Document:
    """Return a document without the times that differ in every look at it: what is sent again only if it changes."""
    if topic.kind == "traffic":
        return {name: value for name, value in document.items() if name != "at"}
    if topic.kind == "fleet":
        gateways = [{**item, "silent_seconds": 0} for item in document["gateways"]]
        return {**document, "lease_seconds": 0, "gateways": gateways}
    return document
