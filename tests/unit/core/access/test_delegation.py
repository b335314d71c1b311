"""A delegated credential is worth one permission on one model for a minute, and nothing without the gateway's key."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.access.callers import Caller, CallerKind
from penstock.core.access.delegation import KEY_BYTES, LIFE_S, PREFIX, read_delegation, write_delegation
from penstock.core.access.permissions import EVERYTHING, Permission
from penstock.core.access.refusals import RefusalReason
from penstock.core.errors import Unauthenticated

KEY = bytes(range(KEY_BYTES))
ANN = Caller("https://login.example#ann", CallerKind.OIDC, EVERYTHING, frozenset({"ops"}))
BOT = Caller("bot", CallerKind.KEY, EVERYTHING, key_id="abcdefghijkl")


@pytest.mark.parametrize("caller", [ANN, BOT, Caller("Zoë \u00e9", CallerKind.CERTIFICATE)])
def test_it_states_the_caller_and_nothing_but_predictions_of_one_model(caller: Caller) -> None:
    read = read_delegation(KEY, write_delegation(KEY, caller, "fraud-1", 1000.0))
    assert (read.name, read.kind, read.key_id) == (caller.name, caller.kind, caller.key_id)
    assert read.may(Permission.PREDICT, "fraud-1") and not read.may(Permission.PREDICT, "fraud-12")
    assert not any(read.may_anywhere(item) for item in Permission if item is not Permission.PREDICT)
    assert not read.may_everywhere(Permission.PREDICT)


@given(st.floats(0, 4e9))
@settings(max_examples=20)
def test_it_ends_after_one_to_two_lives(now: float) -> None:
    ends_at = read_delegation(KEY, write_delegation(KEY, BOT, "m", now)).expires_at
    assert ends_at is not None and LIFE_S <= ends_at - int(now) <= 2 * LIFE_S


def test_all_of_one_life_are_the_same_text() -> None:
    texts = {write_delegation(KEY, BOT, "m", 6000.0 + second) for second in range(LIFE_S)}
    assert len(texts) == 1
    assert write_delegation(KEY, BOT, "m", 6000.0 + LIFE_S) not in texts


@pytest.mark.parametrize("place", range(len(PREFIX), 40, 7))
def test_a_changed_text_is_refused(place: int) -> None:
    text = write_delegation(KEY, BOT, "m", 0.0)
    changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
    assert_refused(KEY, changed)


def test_it_is_worth_nothing_elsewhere() -> None:
    text = write_delegation(KEY, BOT, "m", 0.0)
    assert_refused(bytes(KEY_BYTES), text)
    assert_refused(b"", text)
    assert_refused(b"", write_delegation(b"", BOT, "m", 0.0))
    for broken in (PREFIX, text.partition(".")[0], f"{text}.", f"{PREFIX}.{text.partition('.')[2]}", f"{PREFIX}é.é"):
        assert_refused(KEY, broken)


def assert_refused(key: bytes, text: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        read_delegation(key, text)
    assert refusal.value.detail == RefusalReason.INVALID_TOKEN
