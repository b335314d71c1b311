"""Decides which requests are traced: by the caller, by a ratio, and how many may be forced in a second."""

from math import log, log1p
from typing import Final

NEVER: Final = 1 << 62
_FARTHEST: Final = 1e18


class DistanceDraw:
    """Draws after how many requests the next one is sampled (1: the next), if each is with probability ``ratio``. One
    draw for each sampled request costs the others a subtraction."""

    def __init__(self, ratio: float) -> None:
        self._constant = NEVER if ratio <= 0 else 1
        self._log_rest = log1p(-ratio) if 0 < ratio < 1 else 0.0

    def draw(self, chance: float) -> int:
        """Return a distance; ``chance`` is random, 0 to 1 (exclusive)."""
        if not self._log_rest:
            return self._constant
        distance = log(1.0 - chance) / self._log_rest
        return int(distance) + 1 if distance < _FARTHEST else NEVER


class TokenBucket:
    """Lets ``rate`` events a second happen, and at most a second's (one at least) at once. Times are nanoseconds of any
    steady clock; of one thread."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(1.0, rate) if rate > 0 else 0.0
        self._tokens = self._most
        self._at_ns = 0

    def take(self, now_ns: int) -> bool:
        """Return whether one more event may happen, and count it."""
        since_s = max(0, now_ns - self._at_ns) / 1e9 if self._at_ns else 0.0
        self._at_ns = max(now_ns, self._at_ns)
        self._tokens = min(self._most, self._tokens + since_s * self._rate)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
