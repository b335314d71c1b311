"""Signals that stop the control process, and work that a signal interrupts."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


class StopSignals:
    """Stop signals: ``first`` requests a drain, ``second`` an immediate stop."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to outlive the terminal
            loop.add_signal_handler(signal.SIGHUP, self._on_signal)

    def _on_signal(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


async def run_until(wanted: Coroutine[Any, Any, None], interruption: Coroutine[Any, Any, Any]) -> bool:
    """Run both until one ends and cancel the other; return whether ``wanted`` ended."""
    tasks = [asyncio.ensure_future(wanted), asyncio.ensure_future(interruption)]
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for task in done:
        task.result()
    return tasks[0] in done
