"""What the monitor tells of a version's rows when something has changed."""

from dataclasses import dataclass
from typing import Any

DRIFT, QUALITY, SLICE = "drift", "quality", "slice"


@dataclass(frozen=True, slots=True)
class DriftChange:
    """Something that has changed: ``about`` says in which regard, ``begins`` whether it began or is over."""

    about: str
    feature: str
    begins: bool
    evidence: dict[str, Any]
