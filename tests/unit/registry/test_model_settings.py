"""How versions come and go, in words and back."""

from typing import Any

import pytest

from penstock.core.errors import InvalidInput
from penstock.core.versions import VersionPolicy
from penstock.registry.model_settings import decode_settings, encode_settings, policy_of
from penstock.registry.records import ModelSettings


@pytest.mark.parametrize(
    "settings",
    [
        ModelSettings(),
        ModelSettings(VersionPolicy("latest", 3), "resources", 0.0),
        ModelSettings(VersionPolicy("specific", specific=("1", "1.4.0")), keep_warm_s=5.0),
    ],
)
def test_settings_survive_their_json_values(settings: ModelSettings) -> None:
    assert decode_settings(encode_settings(settings)) == settings


@pytest.mark.parametrize(
    "text",
    ["", "some", "all:1", "latest", "latest:0", "latest:x", "latest:99999999999", "specific:", "specific:a", 7, None],
)
def test_what_means_no_policy_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput, match="expected all"):
        policy_of(text)


@pytest.mark.parametrize(
    "values",
    [
        {"transition": "sideways"},
        {"keep_warm_seconds": -1},
        {"keep_warm_seconds": "long"},
        {"keep_warm_seconds": True},
        {"colour": "red"},
    ],
)
def test_the_message_lists_every_fault(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(values))):
        decode_settings(values)
