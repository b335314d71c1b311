"""Runs `penstock serve` again in its own process, with a heap that forked workers can have.

It comes before every other import, so that little is done twice.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final

from penstock.control.workers.environment import MALLOC, TUNABLES

HUGE_PAGES: Final = "/sys/kernel/mm/transparent_hugepage/enabled"


def restart_for_heap(arguments: Sequence[str], setting: str = HUGE_PAGES) -> None:
    """Run this program again in the same process with the heap of a worker, since the C library reads its settings only
    at the start of a program, and forked workers have the heap of this process.

    Nothing happens where they would change nothing: huge pages are not on request (``setting`` is the kernel's file),
    the operator has set the variable, or these ``arguments`` are not those of this program.
    """
    own = sys.orig_argv[-len(arguments) :] == list(arguments)
    if TUNABLES in os.environ or not own or not sys.executable or not _huge_pages_on_request(setting):
        return
    os.environ[TUNABLES] = MALLOC
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this program itself
    except OSError:
        return


def _huge_pages_on_request(setting: str) -> bool:
    try:
        with open(setting, encoding="ascii") as file:  # noqa: PTH123 - pathlib is not imported yet
            return "[madvise]" in file.read()
    except OSError:
        return False
