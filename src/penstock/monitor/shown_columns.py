"""Decides which columns a monitor document shows; pure: a model may have hundreds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MOST_SHOWN: Final = 100
"""The most columns of a document that does not have all."""


@dataclass(frozen=True, slots=True)
class ShownColumns:
    """At most ``most`` columns whose name contains ``search``, whatever its case; None for all columns."""

    most: int | None = None
    search: str = ""

    def choose(self, names: Sequence[str], drifts: Sequence[bool], evidence: Sequence[float]) -> list[int]:
        """Return the indexes of the columns to show: those that drift first, then by evidence, the greatest first."""
        wanted = self.search.casefold()
        found = [index for index, name in enumerate(names) if wanted in name.casefold()]
        found.sort(key=lambda index: (not drifts[index], -evidence[index], index))
        return found[: self.most]


ALL_COLUMNS: Final = ShownColumns()


def limit_columns(document: Mapping[str, Any], shown: ShownColumns) -> dict[str, Any]:
    """Return a document that has all columns with the ones to show alone."""
    if shown.most is None or not (document.get("features") or document.get("outputs")):
        return dict(document)
    inputs, outputs = document["features"], document["outputs"]
    columns = [*inputs, *outputs]
    drifts = [item["state"] == "drift" for item in columns]
    chosen = shown.choose([item["name"] for item in columns], drifts, [item["log_e"] for item in columns])
    return {
        **document,
        "features": [columns[index] for index in chosen if index < len(inputs)],
        "outputs": [columns[index] for index in chosen if index >= len(inputs)],
        "columns": {"all": len(columns), "drifting": sum(drifts), "shown": len(chosen)},
    }
