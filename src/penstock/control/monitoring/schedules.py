"""Cron schedules in UTC: Vixie's five fields with names, or nicknames such as ``@daily``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from cronsim import CronSim, CronSimError

from penstock.core.errors import InvalidInput

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = 5
MINUTE_S = 60
DAY = timedelta(days=1)
FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
MOST_BACK = DAY
"""The most time by which a missed run is still made up for."""


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """A schedule of five cron fields."""

    fields: str

    def due(self, after: float, until: float) -> bool:
        """Return whether a time of the schedule is in ``(after, until]`` (seconds since the epoch)."""
        if after // MINUTE_S == until // MINUTE_S:
            return False  # all times are whole minutes
        end = datetime.fromtimestamp(until, UTC)
        start = max(datetime.fromtimestamp(after, UTC), end - MOST_BACK)
        return next(CronSim(self.fields, start), end + MOST_BACK) <= end

    def minutes(self) -> frozenset[int]:
        """See ``conditions.Schedule``."""
        times = _iterate_times((*self.fields.split()[:2], "*", "*", "*"), FIRST + DAY)
        return frozenset(time.hour * 60 + time.minute for time in times)

    def days(self) -> frozenset[int]:
        """See ``conditions.Schedule``: in 28 years each date, leap days too, falls on each weekday."""
        return frozenset(time.toordinal() for time in _iterate_times(("0", "0", *self.fields.split()[2:]), LAST))


def _iterate_times(fields: Sequence[str], end: datetime) -> Iterator[datetime]:
    """Yield the times of the fields from ``FIRST`` until ``end``."""
    return takewhile(lambda time: time < end, CronSim(" ".join(fields), FIRST - timedelta(minutes=1)))


def parse_schedule(text: str) -> CronSchedule:
    """Parse a schedule.

    Raises:
        InvalidInput: the text is not a schedule, or the schedule has no times.
    """
    fields = NICKNAMES.get(text.strip().lower(), text)
    if len(fields.split()) != FIELDS:
        raise InvalidInput(
            f"a schedule has five fields (minute hour day month weekday) or is one of {', '.join(NICKNAMES)}"
        )
    try:
        never = next(CronSim(fields, datetime.fromtimestamp(0, UTC)), None) is None
    except CronSimError as fault:
        raise InvalidInput(f"the schedule is not one of cron: {str(fault).lower()}") from None
    if never:
        raise InvalidInput("no time of the schedule ever comes")
    return CronSchedule(fields)
