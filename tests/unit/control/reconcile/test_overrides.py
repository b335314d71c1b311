"""A configuration that takes the place of a model's own."""

import json

import pytest

from penstock.control.reconcile.overrides import override_config
from penstock.control.reconcile.planner import MaterializedVersion, SourceModel
from penstock.core.errors import InvalidInput

MODEL = SourceModel("m", {version: MaterializedVersion(f"/m/{version}/model.onnx", version, "/m") for version in "123"})


def test_it_holds_for_every_version_and_brings_its_policy() -> None:
    latest = override_config(MODEL, '{"version_policy": {"latest": {"num_versions": 1}}}')
    assert latest.policy.choose(latest.versions) == ("3",)
    assert MODEL.policy.choose(MODEL.versions) == ("1", "2", "3")
    configs = {
        json.loads(placed.config)["version_policy"]["latest"]["num_versions"] for placed in latest.versions.values()
    }
    assert configs == {1}


@pytest.mark.parametrize("config", ['{"backend": "tensorrt"}', '{"name": "other"}', "[]", ""])
def test_a_configuration_that_does_not_fit_is_refused(config: str) -> None:
    with pytest.raises(InvalidInput):
        override_config(MODEL, config)


def test_a_model_without_versions_takes_none() -> None:
    with pytest.raises(InvalidInput, match="no version"):
        override_config(SourceModel("m"), "{}")
