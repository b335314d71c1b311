"""What a caller may see of the fleet."""

from collections.abc import Mapping
from typing import Any

from penstock.core.access.model_filter import ModelFilter


def visible_fleet(fleet: Mapping[str, Any], visible: ModelFilter) -> dict[str, Any]:
    """Return a fleet with the visible models of each gateway."""
    gateways = [
        {**item, "serves": {model: versions for model, versions in item["serves"].items() if visible.allows(model)}}
        for item in fleet["gateways"]
    ]
    return {**fleet, "gateways": gateways}
