"""Names files so that the order of their names is the order of their creation, even if the clock is set back."""

import os
import time
from pathlib import Path

DIGITS = 20


def next_stamp(folder: Path, suffix: str) -> str:
    """Return the stamp of a new file, the part of its name between the last ``@`` and ``-`` with the process id.

    It is the time in nanoseconds since the epoch, or one more than the newest stamp in the folder: after the clock is
    set back, a new file would otherwise be the oldest and be deleted first.

    Raises:
        OSError: the folder cannot be read.
    """
    stamps = (entry.name.rpartition("@")[2][:DIGITS] for entry in os.scandir(folder) if entry.name.endswith(suffix))
    newest = max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=0)
    return f"{max(time.time_ns(), newest + 1):0{DIGITS}d}"
