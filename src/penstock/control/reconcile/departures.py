"""When versions were removed: their metrics end some time later."""

from collections.abc import Callable, Collection

from penstock.core.versions import VersionKey


class Departures:
    """Remembers when each version was last present; a removed one is reported for ``keep_s`` seconds more. ``clock``
    is monotonic, in seconds."""

    def __init__(self, keep_s: float, clock: Callable[[], float]) -> None:
        self._keep_s = keep_s
        self._clock = clock
        self._seen: dict[VersionKey, float] = {}
        self._reported: set[VersionKey] = set()

    def record(self, present: Collection[VersionKey], kept: Collection[VersionKey]) -> None:
        """Record the ``present`` versions; a version in ``kept`` that was never seen counts as removed now.

        An expired version is remembered for as long as it is in ``kept``, so that its metrics do not come back.
        """
        now = self._clock()
        self._seen.update((key, now) for key in kept if key not in self._seen)
        self._seen.update(dict.fromkeys(present, now))
        self._reported = {key for key, at in self._seen.items() if now - at <= self._keep_s}
        self._seen = {key: at for key, at in self._seen.items() if key in kept or key in self._reported}

    def reported(self) -> set[VersionKey]:
        """The versions that were present within ``keep_s`` before the last ``record``."""
        return set(self._reported)
