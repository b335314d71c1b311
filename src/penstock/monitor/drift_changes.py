"""The change that a version's monitor reports for its rows."""

from dataclasses import dataclass
from typing import Any

DRIFT, QUALITY, SLICE = "drift", "quality", "slice"


@dataclass(frozen=True, slots=True)
class DriftChange:
    """A change of one feature: its kind ``about`` (DRIFT, QUALITY or SLICE), whether it ``begins`` or is over, and the
    evidence as JSON values."""

    about: str
    feature: str
    begins: bool
    evidence: dict[str, Any]
