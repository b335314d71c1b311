"""The program of the workers, how many of them a gateway has, and the memory for their models."""

from penstock.config.settings import Settings
from penstock.engine.memory import read_memory
from penstock.engine.threads import read_cores

WORKER_MODULE = "penstock.app.worker"
"""Its ``main`` takes the arguments of a worker, and returns the exit code; it may be run as a program too."""


MODELS_SHARE = 0.8
"""By default, the models of all workers together may take this share of the memory."""


def worker_count(settings: Settings) -> int:
    """Return the number of workers: as the settings say, or one for each core."""
    return read_cores() if settings.workers == "auto" else settings.workers


def models_memory(settings: Settings) -> int:
    """Return the memory for the models of each worker, in bytes."""
    stated = settings.limits.models_memory_bytes
    return int(read_memory() * MODELS_SHARE) // worker_count(settings) if stated == "auto" else stated
