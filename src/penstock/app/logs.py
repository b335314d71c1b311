"""Configures the logs of every process: one line each on standard error, without request content."""

import logging
import re
import sys
import time
from collections.abc import Collection

from penstock.core.addresses import HIDDEN


class LineFormatter(logging.Formatter):
    """Formats time, level, process, logger and message; a traceback follows only for a defect. Libraries log addresses
    as they got them, so ``secrets`` are left out of every line.
    """

    def __init__(self, form: str, secrets: Collection[str] = ()) -> None:
        super().__init__(form)
        longest_first = sorted(secrets, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if secrets else None

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines, of a record."""
        text = super().format(record)
        return text if self._secrets is None else self._secrets.sub(HIDDEN, text)


def set_up(level: str, process: str, secrets: Collection[str] = ()) -> None:
    """Send this process's logs to standard error; ``process`` names it in every line, and ``secrets`` are left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s", secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel("WARNING")  # Penstock logs the migrations itself
    logging.raiseExceptions = False  # a closed standard error must not become an error of its own
