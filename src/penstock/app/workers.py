"""The program of the workers, and how many of them a gateway has."""

from penstock.config.settings import Settings
from penstock.engine.threads import read_cores

WORKER_MODULE = "penstock.app.worker"
"""Its ``main`` takes the arguments of a worker, and returns the exit code; it may be run as a program too."""


def worker_count(settings: Settings) -> int:
    """Return the number of workers: as the settings say, or one for each core."""
    return read_cores() if settings.workers == "auto" else settings.workers
