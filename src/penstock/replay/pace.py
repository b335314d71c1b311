"""When captured requests are due again: in their order and with the time between them, scaled, or at once."""

import math
from dataclasses import dataclass
from typing import Final

ASAP: Final = math.inf
"""The speed at which every request is due as soon as a connection is free."""


def parse_speed(text: str) -> float:
    """Return the speed that ``2``, ``2x``, ``0.5`` or ``asap`` states.

    Raises:
        ValueError: the text has another form.
    """
    if text == "asap":
        return ASAP
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise ValueError(f"--speed: expected a number above 0, such as 2 or 0.5x, or asap (got '{text}')")
    return speed


@dataclass(slots=True)
class Pace:
    """Turns the times of a capture (seconds since the epoch) into moments of the replay (seconds since its start).

    Moments never go back: requests that were captured out of order are due together with the one before.
    """

    speed: float
    _first_at: float = math.nan
    _due: float = 0.0

    def due(self, at: float) -> float:
        """Return the moment of the next request, which was captured at a time."""
        if math.isnan(self._first_at):
            self._first_at = at
        if self.speed < ASAP:
            self._due = max(self._due, (at - self._first_at) / self.speed)
        return self._due
