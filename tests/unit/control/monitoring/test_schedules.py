"""Schedules in the form of cron as tables: Vixie's rule of days, names, nicknames, and what never comes."""

from datetime import UTC, datetime

import pytest

from penstock.control.monitoring.schedules import NICKNAMES, parse_schedule
from penstock.core.errors import InvalidInput


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "after", "until", "due"),
    [
        ("0 3 * * 1", "2026-11-23 02:59:30", "2026-11-23 03:00:01", True),  # a Monday
        ("0 3 * * 1", "2026-11-24 02:59:30", "2026-11-24 03:00:01", False),
        ("0 3 * * 1", "2026-11-23 03:00:01", "2026-11-23 03:00:59", False),
        ("0 3 * * 1", "2026-11-23 03:00:00.5", "2026-11-23 03:05:00", False),
        ("0 3 * * 1", "2026-11-23 02:59:59.5", "2026-11-23 03:00:00.1", True),
        ("*/15 * * * *", "2026-11-21 10:14:59", "2026-11-21 10:15:00", True),
        ("*/15 * * * *", "2026-11-21 10:15:30", "2026-11-21 10:29:59", False),
        ("5-10,30 4 1 1 *", "2027-01-01 04:29:00", "2027-01-01 04:31:00", True),
        ("0 0 13 * 5", "2026-11-13 23:00:00", "2026-11-14 00:30:00", False),
        ("0 0 13 * 5", "2026-11-19 23:00:00", "2026-11-20 00:30:00", True),  # a Friday, if not the 13th
        ("0 0 13 * 5", "2026-12-12 23:00:00", "2026-12-13 00:30:00", True),  # the 13th, if not a Friday
        ("0 0 */2 * 5", "2026-11-19 23:00:00", "2026-11-20 00:30:00", False),  # a Friday, on an even day
        ("0 0 */2 * 5", "2026-11-26 23:00:00", "2026-11-27 00:30:00", True),  # a Friday on an odd one
        ("0 0 13 * */2", "2026-12-12 23:00:00", "2026-12-13 00:30:00", True),  # a Sunday, which is 0
        ("0 0 14 * */2", "2026-12-13 23:00:00", "2026-12-14 00:30:00", False),  # a Monday
        ("0 0 * * 7", "2026-11-21 23:00:00", "2026-11-22 00:30:00", True),  # Sunday is 0 and 7
        ("0 0 * * mon-FRI", "2026-11-21 23:00:00", "2026-11-22 00:30:00", False),
        ("0 0 * dec sun", "2026-12-05 23:00:00", "2026-12-06 00:30:00", True),
        ("@daily", "2026-11-21 23:59:59", "2026-11-22 00:00:01", True),
        ("@Hourly", "2026-11-21 22:59:59", "2026-11-21 23:00:01", True),
        ("@yearly", "2026-11-21 23:59:59", "2026-11-22 00:00:01", False),
        ("0 0 29 2 *", "2028-02-28 23:59:00", "2028-02-29 00:00:00", True),
        ("0 3 * * *", "2026-11-01 00:00:00", "2026-11-21 02:00:00", True),  # missed while nobody looked
        ("0 3 1 * *", "2026-11-01 00:00:00", "2026-11-21 02:00:00", False),  # missed too long ago
    ],
)
def test_schedules_are_due_at_their_times(text: str, after: str, until: str, due: bool) -> None:
    assert parse_schedule(text).due(seconds(after), seconds(until)) is due


@pytest.mark.parametrize("text", NICKNAMES)
def test_every_nickname_is_a_schedule(text: str) -> None:
    assert parse_schedule(text).fields == NICKNAMES[text]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("0 * * * * *", "five fields"),  # no seconds
        ("@reboot", "five fields"),
        ("60 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("5-1 * * * *", "bad minute"),
        ("a * * * *", "bad minute"),
        ("*/0 * * * *", "bad minute"),
        ("0 0 0 * *", "bad day"),
        ("0 0 * moon *", "bad month"),
        ("0 0 30 2 *", "bad day"),
        ("0 0 31 4,6,9,11 *", "bad day"),
    ],
)
def test_malformed_schedules_are_refused(text: str, fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        parse_schedule(text)


def test_a_schedule_whose_time_never_comes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no time of the schedule ever comes"):
        parse_schedule("0 0 */29 2 1#5")  # a fifth Monday in February that is its first or its thirtieth day
