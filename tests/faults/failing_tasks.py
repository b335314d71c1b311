"""The `penstock` command with quick periodic tasks that fail: the second step of each raises, at the fourth its loop is
cancelled, and the steps of HUNG go on for as long as the file in the variable ``HANG`` exists."""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from penstock import cli
from penstock.app import workers
from penstock.control.periodic import PeriodicTask

HUNG = {"labels", "house"}
HANG = "FAILING_TASKS_HANG"
INTERVAL_S = 0.2
OVERDUE_S = 2.0
RAISES, DIES = 2, 4

_steps: Counter[str] = Counter()


async def _raise() -> None:
    raise RuntimeError("made to fail")


def _hangs() -> bool:
    return Path(os.environ[HANG]).exists()


class FailingTask:
    """What stands in for two methods of ``PeriodicTask``."""

    real_init = PeriodicTask.__init__
    real_attempt = PeriodicTask.attempt

    def init(self: Any, name: str, step: Any, interval_s: float, **others: Any) -> None:
        others["delay_s"] = min(others.get("delay_s", 0.0), INTERVAL_S)
        if name in HUNG:
            others["overdue_s"] = OVERDUE_S
        FailingTask.real_init(self, name, step, min(interval_s, INTERVAL_S), **others)

    async def attempt(self: Any) -> None:
        _steps[self.name] += 1
        if _steps[self.name] == RAISES:
            step, self._step = self._step, _raise
            await FailingTask.real_attempt(self)
            self._step = step
            return
        if _steps[self.name] == DIES and (task := asyncio.current_task()) is not None:
            task.cancel()
            await asyncio.sleep(0)
        while self.name in HUNG and _hangs():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.05)
        await FailingTask.real_attempt(self)


def install() -> None:
    """Have every periodic task of this process fail."""
    setattr(PeriodicTask, "__init__", FailingTask.init)  # noqa: B010 - mypy takes no other assignment to a method
    setattr(PeriodicTask, "attempt", FailingTask.attempt)  # noqa: B010


if __name__ == "__main__":
    install()
    workers.WORKER_MODULE = "tests.faults.failing_worker"
    sys.exit(cli.run(sys.argv[1:]))
