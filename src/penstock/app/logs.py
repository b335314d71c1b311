"""Configures the logs of every process: one line each on standard error, without request content."""

import logging
import sys
import time


class LineFormatter(logging.Formatter):
    """Formats time, level, process, logger and message; a traceback follows only for a defect."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


def set_up(level: str, process: str) -> None:
    """Send this process's logs to standard error; ``process`` names it in every line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel("WARNING")  # Penstock logs the migrations itself
    logging.raiseExceptions = False  # a closed standard error must not become an error of its own
