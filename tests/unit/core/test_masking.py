"""Masked policies: nothing in them is a secret, a change shows, and what was read can be set again."""

import re
from typing import Any

import pytest

from penstock.core.errors import InvalidInput
from penstock.core.masking import SecretMask

POLICY: dict[str, Any] = {
    "monitor": {"sample": 1.0},
    "sinks": {
        "chat": {"webhook": {"url": "https://hooks.example/services/T000/PLANTED8901234567890?token=PLANTED&PLANTED"}},
        "run": {
            "command": {"argv": ["curl", "-H", "Authorization: PLANTED", "--password", "PLANTED", "-pPLANTED", "a.py"]}
        },
        "user": {"argo": {"url": "http://PLANTED:PLANTED@h.example/#PLANTED"}},
        "odd": {"argo": {"url": "http://u:PLANTED/PLANTED@h.example/"}},
        "log": {"file": {"path": "events.jsonl"}},
    },
}


def test_nothing_secret_is_shown() -> None:
    masked = SecretMask(b"key").policy(POLICY)
    assert "PLANTED" not in str(masked)
    assert masked["monitor"] == POLICY["monitor"]
    assert masked["sinks"]["log"] == POLICY["sinks"]["log"]
    assert masked["sinks"]["chat"]["webhook"]["url"].startswith("https://hooks.example/services/T000/hmac-sha256:")
    argv = masked["sinks"]["run"]["command"]["argv"]
    assert [argv[index] for index in (0, 1, 3, 6)] == ["curl", "-H", "--password", "a.py"]
    assert argv[2] != argv[4] != argv[5]


def test_masks_are_compared_only_under_the_same_key() -> None:
    assert SecretMask(b"key").policy(POLICY) == SecretMask(b"key").policy(POLICY)
    assert SecretMask(b"key").policy(POLICY) != SecretMask(b"other").policy(POLICY)
    assert SecretMask().policy(POLICY) != SecretMask().policy(POLICY)


def test_a_policy_that_was_read_can_be_set_again() -> None:
    mask = SecretMask(b"key")
    assert mask.restore(mask.policy(POLICY), POLICY) == POLICY
    shown = mask.policy(POLICY)
    shown["sinks"]["chat"]["webhook"]["mode"] = "binary"
    del shown["sinks"]["user"]
    restored = mask.restore(shown, POLICY)["sinks"]
    assert restored["chat"]["webhook"] == {**POLICY["sinks"]["chat"]["webhook"], "mode": "binary"}
    assert "user" not in restored


@pytest.mark.parametrize(
    "stored",
    [{}, {"sinks": {"chat": {"argo": {"url": "http://x"}}}}, {"sinks": {"chat": {"webhook": {"url": "http://x"}}}}],
)
def test_a_mask_of_something_else_is_refused(stored: dict[str, Any]) -> None:
    shown = {"sinks": {"chat": SecretMask(b"key").policy(POLICY)["sinks"]["chat"]}}
    with pytest.raises(InvalidInput, match=r"'sinks.chat' has a masked value"):
        SecretMask(b"key").restore(shown, stored)


@pytest.mark.parametrize(
    "sinks", [None, 7, "PLANTED", [], {"a": 7}, {"a": {"webhook": "PLANTED"}}, {"a": {"command": {"argv": 7}}}]
)
def test_documents_of_any_form_are_masked(sinks: object) -> None:
    mask = SecretMask(b"key")
    assert "PLANTED" not in str(mask.policy({"sinks": sinks})) or not isinstance(sinks, dict)
    mask.restore({"sinks": sinks}, POLICY)


def test_an_address_keeps_its_form() -> None:
    url = "https://h.example/p?a=1&b=2"
    shown = SecretMask(b"key").policy({"sinks": {"s": {"webhook": {"url": url}}}})["sinks"]["s"]["webhook"]["url"]
    assert re.fullmatch(r"https://h\.example/p\?a=hmac-sha256:\w+&b=hmac-sha256:\w+", shown)
