"""Keeps the garbage collector away from what tests import, of which hardly anything ever is garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def left_alone() -> Iterator[None]:
    """Collect no garbage while tests are imported and collected, and leave them out of every later collection."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
