"""Which versions are gone, and for how long: what is kept of them ends after a while."""

from collections.abc import Callable, Collection

from penstock.core.versions import VersionKey


class Departures:
    """Remembers when each version was there last; ``keep_s`` is how long one that is gone is told of, ``clock`` is
    monotonic, in seconds."""

    def __init__(self, keep_s: float, clock: Callable[[], float]) -> None:
        self._keep_s = keep_s
        self._clock = clock
        self._seen: dict[VersionKey, float] = {}
        self._told: set[VersionKey] = set()

    def look(self, present: Collection[VersionKey], kept: Collection[VersionKey]) -> None:
        """Note the versions that are there now; what is ``kept`` of others that nobody saw leaves from now on.

        One whose time is over is remembered for as long as something is kept of it: its series do not come back.
        """
        now = self._clock()
        self._seen.update((key, now) for key in kept if key not in self._seen)
        self._seen.update(dict.fromkeys(present, now))
        self._told = {key for key, at in self._seen.items() if now - at <= self._keep_s}
        self._seen = {key: at for key, at in self._seen.items() if key in kept or key in self._told}

    def told(self) -> set[VersionKey]:
        """The versions that are there, and those that were until ``keep_s`` before the last look."""
        return set(self._told)
