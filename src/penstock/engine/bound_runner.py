"""Runs a graph on rows again and again in the same memory: new values for each run cost a third of a small one."""

from collections.abc import Callable
from typing import Any

from penstock.core.tensors import Array


class BoundRunner:
    """A session bound to the memory of a number of rows and of their outputs; one thread at a time may use it."""

    __slots__ = ("_binding", "_outputs", "_rows", "_run")

    def __init__(self, run: Callable[[Any, Any], None], binding: Any, rows: memoryview, outputs: list[Array]) -> None:
        self._run = run
        self._binding = binding
        self._rows = rows
        self._outputs = outputs

    def run(self, rows: bytes, run_options: Any) -> list[Array]:
        """Return the outputs for the bytes of all rows, in arrays of their own. Blocks.

        Raises what the runtime raises, also if an output has another shape than the one that is bound.
        """
        self._rows[:] = rows
        self._run(self._binding, run_options)
        return [array.copy() for array in self._outputs]
