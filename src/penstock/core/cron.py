"""Times of a schedule: the five fields of cron (minute, hour, day, month, weekday), in UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from penstock.core.errors import InvalidInput

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))

MOST_BACK = timedelta(days=1)
"""Times that were missed longer ago than this are past."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule; days and weekdays that are both stated mean either, as in cron."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def at(self, when: datetime) -> bool:
        """Whether a minute is one of its times."""
        weekday = when.isoweekday() % 7
        day, week = when.day in self.days, weekday in self.weekdays
        fits = day or week if self.either_day else day and week
        return fits and when.minute in self.minutes and when.hour in self.hours and when.month in self.months

    def due(self, after: float, until: float) -> bool:
        """Whether one of its times lies after the one and not after the other (seconds since the epoch)."""
        end = datetime.fromtimestamp(until, UTC).replace(second=0, microsecond=0)
        start = max(datetime.fromtimestamp(after, UTC), end - MOST_BACK)
        minute = end
        while minute > start:
            if self.at(minute):
                return True
            minute -= timedelta(minutes=1)
        return False


def cron_in(text: str) -> Cron:
    """A schedule from its text.

    Raises:
        InvalidInput: it is none.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise InvalidInput("a schedule has five fields: minute hour day month weekday")
    found = [_field(field, *about) for field, about in zip(fields, _FIELDS, strict=True)]
    weekdays = frozenset(day % 7 for day in found[4])
    either = fields[2] != "*" and fields[4] != "*"
    return Cron(found[0], found[1], found[2], found[3], weekdays, either)


def _field(text: str, name: str, least: int, most: int) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        try:
            begin = least if span == "*" else int(low)
            end = most if span == "*" or (step and not high) else int(high or low)
            every = int(step or 1)
        except ValueError:
            raise InvalidInput(f"the {name} of a schedule is no number, range or *: {text[:32]}") from None
        if not least <= begin <= end <= most or every < 1:
            raise InvalidInput(f"the {name} of a schedule lies from {least} to {most}")
        values |= set(range(begin, end + 1, every))
    return frozenset(values)
