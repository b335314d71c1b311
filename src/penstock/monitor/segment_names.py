"""Names files so that the order of their names is that in which they were made, whatever the clock does."""

import os
import time
from pathlib import Path

DIGITS = 20


def next_stamp(folder: Path, suffix: str) -> str:
    """What comes after the last ``@`` in the name of a new file, before ``-`` and the process: nanoseconds since the
    epoch, or more than any file there has. Where the clock was set back, a new file would be the oldest otherwise, and
    the first to go.

    Raises:
        OSError: the folder cannot be read.
    """
    stamps = (one.name.rpartition("@")[2][:DIGITS] for one in os.scandir(folder) if one.name.endswith(suffix))
    newest = max((int(one) for one in stamps if one.isdecimal()), default=0)
    return f"{max(time.time_ns(), newest + 1):0{DIGITS}d}"
