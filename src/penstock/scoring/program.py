"""The confined process of a scoring job: reads it from a file, and writes progress and the summary as JSON lines.

A line has ``progress`` (the rows done and their part of the file), ``summary``, or ``fault`` with its ``kind``.
"""

import errno
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from penstock.core.errors import Fault
from penstock.scoring.job import decode_job, run_job

PAUSE_S: Final = 0.1
"""Seconds between two lines of progress."""

_OUT_OF_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class _Progress:
    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, rows: int, part: float) -> None:
        now = time.monotonic()
        if now - self._last >= PAUSE_S:
            self._last = now
            _write({"progress": [rows, part]})


def main(plan: str) -> int:
    """Run the job in the file ``plan``."""
    try:
        _write({"summary": run_job(decode_job(json.loads(Path(plan).read_text())), _Progress())})
    except Fault as fault:
        _write({"fault": fault.full_text, "kind": fault.kind})
    except OSError as error:
        _write({"fault": describe_os_error(error), "kind": "os"})
    return 0


def describe_os_error(error: OSError) -> str:
    """Return what failed, and what to do if the disk is full; libraries put texts of their own around the reason."""
    reason = (os.strerror(error.errno) if error.errno else error.strerror or str(error)).lower()
    if error.errno in _OUT_OF_SPACE:
        return f"the result cannot be written: {reason}; free space in its folder, and go on with --resume"
    return f"'{Path(error.filename).name}': {reason}" if error.filename else reason


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
