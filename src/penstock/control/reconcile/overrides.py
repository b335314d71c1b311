"""Replaces the configuration of a model by the one that an operator gave with a load request."""

from dataclasses import replace
from pathlib import Path

from penstock.control.reconcile.planner import SourceModel
from penstock.core.errors import InvalidInput
from penstock.registry.config import model_config


def override_config(model: SourceModel, config: str) -> SourceModel:
    """Every version of the model with this configuration (JSON text).

    The recorded answers (``probes``) are dropped: they hold for the model's own configuration only.

    Raises:
        InvalidInput: the configuration does not suit the model.
    """
    text = model_config.parse_json(config, model.name)
    if not model.versions:
        raise InvalidInput(f"model '{model.name}' has no version that a configuration could be for")
    versions = {version: replace(placed, config=text, probes="") for version, placed in model.versions.items()}
    newest = next(reversed(versions.values()))
    return replace(model, versions=versions, policy=model_config.read(text, Path(newest.folder)).version_policy)
