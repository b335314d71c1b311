"""Runs the tests that failed in a whole run once more, alone, and names them: `make test-again`, for machines of CI.

Only after a run that came to its end, and only for a few tests: more are a fault of the change. A test that passes
alone is named all the same; it, or what it tests, does not bear a busy machine.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MOST = 3
STATUS = Path("build/test-status")
FAILED = Path(".pytest_cache/v/cache/lastfailed")
COMPLETE_WITH_FAILURES = "1"


def note_status(config: pytest.Config, status: int) -> None:
    """Note how a run ended; by the process that leads it."""
    if not hasattr(config, "workerinput"):
        STATUS.parent.mkdir(parents=True, exist_ok=True)
        STATUS.write_text(str(int(status)))


def failed_tests(status: str, failed: list[str]) -> list[str]:
    """Return the tests to run again, none if that would say nothing about the change."""
    known = [test for test in failed if "::" in test]
    complete = status == COMPLETE_WITH_FAILURES and len(known) == len(failed)
    return known if complete and len(known) <= MOST else []


def main() -> int:
    """Run them, and return the status for the shell."""
    tests = failed_tests(STATUS.read_text(), list(json.loads(FAILED.read_text())))
    if not tests:
        sys.stderr.write(f"not run again: the run did not come to its end, or more than {MOST} tests have failed\n")
        return 1
    sys.stdout.write("FAILED BESIDE OTHERS, run again alone:\n" + "".join(f"  {test}\n" for test in tests))
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-m", "pytest", *tests], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
