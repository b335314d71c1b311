"""Logs of every process: one line each on standard error, and never a word from a request."""

import logging
import sys
import time


class OneLine(logging.Formatter):
    """Time, level, process, logger, message; a trace follows only where something is broken."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


def set_up(level: str, process: str) -> None:
    """Send this process's logs to standard error; ``process`` names it in every line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel("WARNING")  # its steps are told by us
    logging.raiseExceptions = False  # a closed standard error must not become an error of its own
