"""How much chance the tests try: a part of it for every change, all of it nightly."""

import os

THOROUGH = os.environ.get("PENSTOCK_TESTS") == "thorough"
"""Whether this run is the nightly one."""

PART = 10
LEAST = 5


def examples(thorough: int) -> int:
    """Hypothesis examples, or runs of a simulation, of this run; ``thorough`` are those of the nightly one."""
    return thorough if THOROUGH else max(min(LEAST, thorough), thorough // PART)
