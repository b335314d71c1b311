"""When the first models are served: at once, or, where the source has nothing to offer at the start, once it has."""

import time
from collections.abc import Callable, Sequence

from penstock.control.periodic import Complaints, describe
from penstock.control.reconcile.planner import Found
from penstock.control.reconcile.reconciler import NothingYet, Source
from penstock.control.sources.folder import is_passing
from penstock.core.errors import Fault

PATIENCE_S = 30.0
"""From the first look that finds models on, so long are the last of them waited for."""

_EXAMINED = "the first models are being examined"
_FIRST = "first"
_BROKEN = "the source of the models cannot be looked at"


class InitialSync:
    """Asks a source until it offers something. ``reason`` says why nothing is served yet, "" once something is.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._found_at: float | None = None
        self.reason = ""
        self._complaints = Complaints()

    async def at_start(self) -> Sequence[Found] | None:
        """What the source offers, files taken as they are; None if it may offer something later.

        Raises:
            Fault: it cannot offer anything.
        """
        try:
            return await self._source.scan(settled_only=False)
        except NothingYet as fault:
            self._wait(fault)
            return None

    async def again(self) -> Sequence[Found] | None:
        """What the source offers, once its models have come to rest and are examined; None until then.

        A model that never comes to rest does not stop the others: they are waited for no longer than ``PATIENCE_S``.
        """
        try:
            found = await self._source.scan(settled_only=True)
        except Fault as fault:
            self._wait(fault)
            return None
        except Exception as error:
            self.reason = _BROKEN
            self._complaints.tell(_FIRST, f"{_BROKEN}: {describe(error)}", error)
            return None
        now = self._clock()
        began = self._found_at = now if self._found_at is None else self._found_at
        if any(map(is_passing, found)) and now - began < PATIENCE_S:
            self.reason = _EXAMINED
            return None
        self.reason = ""
        return found

    def _wait(self, fault: Fault) -> None:
        """Remember the reason, and log it once for as long as it is the same."""
        self._found_at = None
        self.reason = str(fault)
        text = f"nothing can be served yet, and it is tried again until it can: {fault.whole}"
        self._complaints.tell(_FIRST, text, fault)
