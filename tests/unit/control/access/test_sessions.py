"""Sessions end with time, by sign-out and by number; their ids are nowhere in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.access.sessions import IDLE_S, LONGEST_S, Sessions

KEY = b"Bearer pk_1"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_session_stands_for_its_credential_and_has_a_token_of_its_own(clock: Clock) -> None:
    sessions = Sessions(clock)
    one, other = sessions.begin(KEY), sessions.begin(b"Bearer pk_2")
    found, second = sessions.find(one), sessions.find(other)
    assert found is not None and second is not None
    assert (found.authorization, second.authorization) == (KEY, b"Bearer pk_2")
    assert len({one, other, found.csrf, second.csrf}) == 4
    assert min(len(one), len(found.csrf)) >= 43
    assert sessions.find("x") is sessions.find("") is sessions.find("\udcff") is None


def test_a_session_ends_without_requests_and_after_its_longest_time(clock: Clock) -> None:
    sessions = Sessions(clock)
    idle, busy = sessions.begin(KEY), sessions.begin(KEY)
    while clock.now < LONGEST_S - IDLE_S:
        clock.now += IDLE_S / 2
        assert sessions.find(busy) is not None
    assert sessions.find(idle) is None
    clock.now = LONGEST_S
    assert sessions.find(busy) is None
    assert len(sessions) == 0


def test_a_session_ends_by_signing_out(clock: Clock) -> None:
    sessions = Sessions(clock)
    session = sessions.begin(KEY)
    sessions.end(session)
    sessions.end(session)
    assert sessions.find(session) is None


def test_ended_sessions_make_space_before_others_are_evicted(clock: Clock) -> None:
    sessions = Sessions(clock, most=2)
    sessions.begin(KEY)
    clock.now = IDLE_S
    kept = [sessions.begin(KEY), sessions.begin(KEY)]
    assert sessions.evicted == 0
    assert all(sessions.find(session) for session in kept)


def test_of_too_many_sessions_the_least_recently_used_one_ends(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    sessions = Sessions(clock, most=3, most_of_one=2)
    first, second = sessions.begin(KEY), sessions.begin(KEY)
    assert sessions.find(first)
    third = sessions.begin(KEY)
    assert [sessions.find(session) is not None for session in (first, second, third)] == [True, False, True]
    others = [sessions.begin(b"Bearer %d" % number) for number in range(2)]
    assert [sessions.find(session) is not None for session in (first, third, *others)] == [False, True, True, True]
    assert sessions.evicted == 2
    assert "too many" in caplog.text


@given(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=30))
def test_there_are_never_more_than_allowed(credentials: list[bytes]) -> None:
    sessions = Sessions(Clock(), most=5, most_of_one=2)
    for credential in credentials:
        sessions.begin(credential)
        assert len(sessions) <= 5
        kept = list(sessions._sessions.values())
        assert all(sum(item.authorization == each for item in kept) <= 2 for each in (b"a", b"b", b"c"))


def test_the_id_is_not_in_memory(clock: Clock) -> None:
    sessions = Sessions(clock)
    session = sessions.begin(KEY)
    assert session.encode() not in repr(sessions._sessions).encode()
