"""Configures the logs of every process: one line each on standard error, without request content."""

import logging
import sys
from collections.abc import Collection, Iterable

from penstock.telemetry.log_formats import formatter_of

log = logging.getLogger("penstock.app")


def set_up(level: str, process: str, secrets: Collection[str] = (), log_format: str = "text") -> None:
    """Send this process's logs to standard error; ``process`` names it in every line, and ``secrets`` are left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter_of(log_format, process, secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel("WARNING")  # Penstock logs the migrations itself
    logging.raiseExceptions = False  # a closed standard error must not become an error of its own


def log_warnings(sentences: Iterable[str]) -> None:
    """Log what an operator should change, though the gateway starts."""
    for sentence in sentences:
        log.warning(sentence)
