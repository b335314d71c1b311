"""Decides when the first models are served: at once, or as soon as a source that is empty at the start offers some."""

import time
from collections.abc import Callable, Sequence

from penstock.control.periodic import ProblemLog, describe
from penstock.control.reconcile.planner import SourceModel
from penstock.control.reconcile.reconciler import ModelSource, NoModelsYet
from penstock.control.sources.folder import is_passing
from penstock.core.errors import Fault

PATIENCE_S = 30.0
"""The longest wait for the last models, from the first scan that finds any, in seconds."""

_BEING_EXAMINED = "the first models are being examined"
_FIRST = "first"
_BROKEN = "the source of the models cannot be read"


class InitialSync:
    """Scans a source until it offers models. ``reason`` says why no model is served yet, "" once one is.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(self, source: ModelSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._found_at: float | None = None
        self.reason = ""
        self._problem_log = ProblemLog()

    async def at_start(self) -> Sequence[SourceModel] | None:
        """Scan the source with its files as they are; None if it may offer models later.

        Raises:
            Fault: it cannot offer models.
        """
        try:
            return await self._source.scan(settled_only=False)
        except NoModelsYet as fault:
            self._wait(fault)
            return None

    async def again(self) -> Sequence[SourceModel] | None:
        """Scan the source; None until its files are settled and its models are examined.

        A model that never settles does not stop the others: the wait ends after ``PATIENCE_S``.
        """
        try:
            models = await self._source.scan(settled_only=True)
        except Fault as fault:
            self._wait(fault)
            return None
        except Exception as error:
            self.reason = _BROKEN
            self._problem_log.report(_FIRST, f"{_BROKEN}: {describe(error)}", error)
            return None
        now = self._clock()
        began = self._found_at = now if self._found_at is None else self._found_at
        if any(map(is_passing, models)) and now - began < PATIENCE_S:
            self.reason = _BEING_EXAMINED
            return None
        self.reason = ""
        return models

    def _wait(self, fault: Fault) -> None:
        """Remember the reason, and log it once for as long as it is the same."""
        self._found_at = None
        self.reason = str(fault)
        text = f"no model can be served yet; the source is scanned again until it offers one: {fault.full_text}"
        self._problem_log.report(_FIRST, text, fault)
