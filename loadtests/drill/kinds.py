"""The kinds of canaries of the drill: a table; another kind is another line."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from loadtests.drill.graphs import BROKEN, build_classifier, crashes, fails, loops, not_a_number, stuck, turned


class MarkedFrom(StrEnum):
    """From when on rows are marked."""

    START = "start"
    SECOND_STEP = "second step"
    LAST_STEP = "last step"


class Disturbance(StrEnum):
    """What else happens half way."""

    NOTHING = "nothing"
    DELAYED_LABELS = "delayed labels"
    LEADER_FROZEN = "leader frozen"
    LEADER_LOST = "leader frozen, and killed"


PROMOTED, ROLLED_BACK, REFUSED = "promoted", "rolled_back", "refused"

GUARDS: list[Any] = [
    {"metric": "errors", "max_increase": 0.02},
    {"metric": "latency", "max_ratio": 1.5},
    {"metric": "outputs", "max": 0.2},
    {"metric": "quality"},
]
"""The guards of every rollout of the drill; those whose answers get labels have ``performance`` beside."""

LABELLED: Any = {"metric": "performance", "max_increase": 0.1}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: the canary's file, the share of rows that show its fault and since when, and how it has to end.

    A ``fleet`` is two gateways on one PostgreSQL, of which one leads; else it is one gateway.
    """

    name: str
    ends: str
    canary: bytes = field(repr=False)
    marked: float = 0.0
    marked_from: MarkedFrom = MarkedFrom.START
    labels: bool = False
    garbage: bool = False
    happens: Disturbance = Disturbance.NOTHING
    workers: int = 1
    fleet: bool = False

    @property
    def bad(self) -> bool:
        """Whether the canary is one that must not be promoted."""
        return self.ends != PROMOTED

    @property
    def guards(self) -> list[Any]:
        """The guards of its rollout."""
        return [*GUARDS, LABELLED] if self.labels else GUARDS


KINDS = (
    Kind("errors at once", ROLLED_BACK, build_classifier(fails), 0.2),
    Kind("errors late", ROLLED_BACK, build_classifier(fails), 0.2, MarkedFrom.SECOND_STEP),
    Kind("errors at 100 % only", ROLLED_BACK, build_classifier(fails), 0.2, MarkedFrom.LAST_STEP),
    Kind("slow", ROLLED_BACK, build_classifier(loops(400)), 1.0),
    Kind("slow tail", ROLLED_BACK, build_classifier(loops(2000)), 0.06),
    Kind("wrong outputs", ROLLED_BACK, build_classifier(stuck), 0.6),
    Kind("NaN", ROLLED_BACK, build_classifier(not_a_number), 0.2),
    Kind("worse accuracy by labels", ROLLED_BACK, build_classifier(turned), 0.4, labels=True),
    Kind("crashing the worker", ROLLED_BACK, build_classifier(crashes), 0.05, workers=2),
    Kind("never ready", REFUSED, BROKEN),
    Kind(
        "errors late, a fleet's leader frozen",
        ROLLED_BACK,
        build_classifier(fails),
        0.2,
        MarkedFrom.SECOND_STEP,
        happens=Disturbance.LEADER_FROZEN,
        fleet=True,
    ),
    Kind("identical", PROMOTED, build_classifier()),
    Kind("faster", PROMOTED, build_classifier()),
    Kind("behind a client that sends garbage", PROMOTED, build_classifier(), garbage=True),
    Kind(
        "with a batch of delayed labels", PROMOTED, build_classifier(), labels=True, happens=Disturbance.DELAYED_LABELS
    ),
    Kind("with a leader frozen and killed half way", PROMOTED, build_classifier(), happens=Disturbance.LEADER_LOST),
    Kind(
        "with a fleet's leaders frozen and killed half way",
        PROMOTED,
        build_classifier(),
        happens=Disturbance.LEADER_LOST,
        fleet=True,
    ),
)
"""Bad kinds and good ones: ten and five of one gateway, and one each of a fleet."""


def build_control(kind: Kind) -> bytes:
    """The file of the version that the canary is held against."""
    return build_classifier(always(200)) if kind.name == "faster" else build_classifier()


def always(turns: int) -> Any:
    """Every row takes so many products of matrices longer, marked or not."""

    def fault(parts: Any, score: str, mark: str) -> str:
        return loops(turns)(parts, score, parts.op("Or", mark, parts.op("Not", mark)))

    return fault
