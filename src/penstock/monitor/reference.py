"""The reference of a version: the distribution of its training data or first traffic; later rows are tested against it.

A reference holds no rows. It holds bins with counts, means and standard deviations, a matrix that turns a row's numbers
into a distance from their mean (a changed correlation shows in it), the model's confidence and accuracy, and the same
counts for each value of some categorical features.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from penstock.core.bins import FeatureBins, FeatureKind
from penstock.monitor.confidence import ConfidenceHistogram, decode_confidence

TRAINING, LIVE = "training", "live"
VERSION = 2
"""Version of the format; it changes when the same data would give other bins."""

SMALL = 10_000
"""A reference of fewer rows is small: its sampling error would raise alarms, so thresholds are wider."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the reference: its bins, the counts [places], and the moments of its finite numbers.

    ``seasonal_variation`` is how far parts of the reference differ from all of it, in nats for each row. ``hours``
    [hours, places] are counts by the hour of the week or of the day, if their times are known and matter.
    """

    bins: FeatureBins
    counts: tuple[int, ...]
    mean: float = 0.0
    std: float = 0.0
    seasonal_variation: float = 0.0
    hours: tuple[tuple[int, ...], ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class ReferenceSlice:
    """The slices of one categorical feature: for each of its places the counts of all columns, one after the other."""

    key: str
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class JointDistribution:
    """The joint distribution of a row's numbers: ``middle`` [numbers] and ``directions`` [numbers, k] define the
    distance ``|(x - middle) @ directions|^2 / k``; ``feature`` is its distribution."""

    middle: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]
    feature: Feature


@dataclass(frozen=True)
class Reference:
    """A reference. Features are in the order numbers, then labels, first of inputs and then of outputs.

    ``source`` is TRAINING or LIVE. ``errors`` are the numbers of wrong and right answers, if the data had labels.
    """

    source: str
    rows: int
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    joint: JointDistribution | None = None
    confidence: ConfidenceHistogram | None = None
    slices: tuple[ReferenceSlice, ...] = ()
    errors: tuple[int, int] | None = None

    @cached_property
    def digest(self) -> str:
        """The digest of its content, ``sha256:`` and hexadecimal digits."""
        text = json.dumps(encode_reference(self), sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def features(self) -> tuple[Feature, ...]:
        """All counted columns in the order of their counters: inputs, outputs, the joint distance."""
        return (*self.inputs, *self.outputs, *([] if self.joint is None else [self.joint.feature]))

    @property
    def hours(self) -> int:
        """Number of hours that it distinguishes, 0 for none."""
        return len(self.features[0].hours) if self.features else 0

    @property
    def is_small(self) -> bool:
        """Whether it has so few rows that its sampling error matters."""
        return self.rows < SMALL


# As JSON.


def encode_reference(reference: Reference) -> Document:
    """Return a reference as JSON values."""
    joint = reference.joint
    return {
        "version": VERSION,
        "source": reference.source,
        "rows": reference.rows,
        "inputs": [encode_feature(item) for item in reference.inputs],
        "outputs": [encode_feature(output) for output in reference.outputs],
        "joint": None
        if joint is None
        else {
            "middle": list(joint.middle),
            "directions": [list(row) for row in joint.directions],
            "feature": encode_feature(joint.feature),
        },
        "confidence": None if reference.confidence is None else asdict(reference.confidence),
        "slices": [{"key": item.key, "counts": item.counts} for item in reference.slices],
        "errors": reference.errors,
    }


def decode_reference(values: Mapping[str, Any]) -> Reference:
    """Return a reference from its JSON values, also from those of earlier releases."""
    joint = values["joint"]
    return Reference(
        values["source"],
        values["rows"],
        tuple(decode_feature(item) for item in values["inputs"]),
        tuple(decode_feature(output) for output in values["outputs"]),
        None
        if joint is None
        else JointDistribution(
            tuple(joint["middle"]), tuple(tuple(row) for row in joint["directions"]), decode_feature(joint["feature"])
        ),
        decode_confidence(values.get("confidence") or values.get("sureness")),
        tuple(
            ReferenceSlice(slice_["key"], tuple(map(tuple, slice_["counts"]))) for slice_ in values.get("slices", [])
        ),
        None if values.get("errors") is None else (values["errors"][0], values["errors"][1]),
    )


def encode_feature(feature: Feature) -> Document:
    """Return a column as JSON values."""
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
        **({"wander": feature.seasonal_variation} if feature.seasonal_variation else {}),
        **({"hours": [list(row) for row in feature.hours]} if feature.hours else {}),
    }


def decode_feature(values: Mapping[str, Any]) -> Feature:
    """Return a column from its JSON values."""
    bins = FeatureBins(
        values["name"],
        FeatureKind(values["kind"]),
        tuple(values["edges"]),
        tuple(values["values"]),
        tuple(values["known"]),
    )
    hours = tuple(tuple(row) for row in values.get("hours", []))
    return Feature(bins, tuple(values["counts"]), values["mean"], values["std"], values.get("wander", 0.0), hours)
