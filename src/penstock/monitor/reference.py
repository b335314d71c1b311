"""What a version's data looked like when it was trained, or when it was first met: the measure for everything after.

A reference holds no rows: bins and their counts, means and spreads, a matrix that changes a row's numbers into one
distance from the middle of them all, by which a change of how they belong together shows, how sure the model was and
how often it was right, and the same counts for each value of some categorical features.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from penstock.core.bins import Bins, Kind
from penstock.monitor.confidence import ConfidenceHistogram, confidence_in

TRAINING, LIVE = "training", "live"
VERSION = 2
"""Changes when the same data would give other bins."""

SMALL = 10_000
"""A reference of fewer rows is small: its own noise would raise alarms, so thresholds rise with it."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the reference: its bins, the rows in each place, and the moments of its finite numbers.

    ``wander`` are the nats a row that it moves by itself from time to time, ``hours`` [hours, places] the rows by the
    hour of the week or of the day, where their times are known and matter.
    """

    bins: Bins
    counts: tuple[int, ...]
    mean: float = 0.0
    std: float = 0.0
    wander: float = 0.0
    hours: tuple[tuple[int, ...], ...] = ()

    @property
    def rows(self) -> int:
        """How many rows there were."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Slice:
    """One categorical feature's values apart: for each place of it, the counts of all columns one after the other."""

    key: str
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Joint:
    """How a row's numbers belong together: ``middle`` [numbers] and ``directions`` [numbers, k] give the distance
    ``|(x - middle) @ directions|^2 / k``; ``feature`` is its distribution."""

    middle: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]
    feature: Feature


@dataclass(frozen=True)
class Reference:
    """A whole reference; the order of features is numbers first, then labels, of inputs and of outputs.

    ``errors`` are the wrong and the right answers to the data, where it had labels.
    """

    source: str
    rows: int
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    joint: Joint | None = None
    confidence: ConfidenceHistogram | None = None
    slices: tuple[Slice, ...] = ()
    errors: tuple[int, int] | None = None

    @cached_property
    def digest(self) -> str:
        """Names it by its content."""
        text = json.dumps(reference_out(self), sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def features(self) -> tuple[Feature, ...]:
        """All columns that are counted, in the order of their counters."""
        return (*self.inputs, *self.outputs, *([] if self.joint is None else [self.joint.feature]))

    @property
    def hours(self) -> int:
        """How many hours it tells apart, 0 for none."""
        return len(self.features[0].hours) if self.features else 0

    @property
    def is_small(self) -> bool:
        """Whether it has so few rows that its own noise matters."""
        return self.rows < SMALL


# As JSON.


def reference_out(reference: Reference) -> Document:
    """A reference as JSON values."""
    joint = reference.joint
    return {
        "version": VERSION,
        "source": reference.source,
        "rows": reference.rows,
        "inputs": [_feature_out(one) for one in reference.inputs],
        "outputs": [_feature_out(one) for one in reference.outputs],
        "joint": None
        if joint is None
        else {
            "middle": list(joint.middle),
            "directions": [list(row) for row in joint.directions],
            "feature": _feature_out(joint.feature),
        },
        "confidence": None if reference.confidence is None else asdict(reference.confidence),
        "slices": [asdict(one) for one in reference.slices],
        "errors": reference.errors,
    }


def reference_in(values: Mapping[str, Any]) -> Reference:
    """A reference from its JSON values."""
    joint = values["joint"]
    return Reference(
        values["source"],
        values["rows"],
        tuple(_feature_in(one) for one in values["inputs"]),
        tuple(_feature_in(one) for one in values["outputs"]),
        None
        if joint is None
        else Joint(
            tuple(joint["middle"]), tuple(tuple(row) for row in joint["directions"]), _feature_in(joint["feature"])
        ),
        confidence_in(values.get("confidence") or values.get("sureness")),
        tuple(Slice(one["key"], tuple(map(tuple, one["counts"]))) for one in values.get("slices", [])),
        None if values.get("errors") is None else (values["errors"][0], values["errors"][1]),
    )


def _feature_out(feature: Feature) -> Document:
    bins = feature.bins
    return {
        "name": bins.name,
        "kind": bins.kind.value,
        "edges": list(bins.edges),
        "values": list(bins.values),
        "known": list(bins.known),
        "counts": list(feature.counts),
        "mean": feature.mean,
        "std": feature.std,
        **({"wander": feature.wander} if feature.wander else {}),
        **({"hours": [list(row) for row in feature.hours]} if feature.hours else {}),
    }


def _feature_in(values: Mapping[str, Any]) -> Feature:
    bins = Bins(
        values["name"], Kind(values["kind"]), tuple(values["edges"]), tuple(values["values"]), tuple(values["known"])
    )
    hours = tuple(tuple(row) for row in values.get("hours", []))
    return Feature(bins, tuple(values["counts"]), values["mean"], values["std"], values.get("wander", 0.0), hours)
