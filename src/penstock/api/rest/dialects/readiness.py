"""Whether a gateway that clouds check for health answers predictions: it is ready, and so is its default model."""

from penstock.api.rest.dialects.base import DialectSetup
from penstock.core.errors import NotFound


def answers_default(setup: DialectSetup) -> bool:
    """Whether the gateway is ready, and the model of paths that name none answers; with several models and none chosen,
    the first is enough."""
    plane = setup.plane
    if not plane.ready():
        return False
    models = plane.routing_table.models
    name = setup.default_model or (next(iter(models)) if len(models) == 1 else "")
    try:
        return plane.queries.model_ready(name) if name else bool(models)
    except NotFound:
        return False
