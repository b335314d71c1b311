"""Runs one graph with denormal numbers taken as zero, whatever the other graphs of the process ask for.

ONNX Runtime applies its session entry once in a process: the first session made decides for the thread that makes it
and for threads started later. A later session sets it for the threads of its own pool only, so that half of an
operator's values are flushed and half are not. Therefore it is set here, on the thread that opens or runs a session,
and taken back afterwards; the pool of a session inherits it from the thread that opens the session.
"""

import ctypes
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from penstock.core.options import SessionOptions
from penstock.core.tensors import Array
from penstock.engine.faults import LoadFailed

ENTRY = "session.set_denormal_as_zero"

_FENV_BYTES = 64
"""At least the size of the C library's ``fenv_t``."""

_CONTROL_BITS = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}
"""Offset of the control register in ``fenv_t``, and its flush bits: FZ and DAZ of MXCSR, FZ of FPCR."""


class _FloatEnvironments:
    """The floating-point environment of the start, and the same with denormal numbers as zero."""

    def __init__(self) -> None:
        library = ctypes.PyDLL(None)  # keeps the GIL: the calls take some nanoseconds
        self._library = library if hasattr(library, "fesetenv") else ctypes.PyDLL("libm.so.6")
        usual = ctypes.create_string_buffer(_FENV_BYTES)
        self._library.fegetenv(usual)
        offset, bits = _CONTROL_BITS[platform.machine()]
        flushing = bytearray(usual.raw)
        control = int.from_bytes(flushing[offset : offset + 4], "little") | bits
        flushing[offset : offset + 4] = control.to_bytes(4, "little")
        self._usual, self._flushing = usual.raw, bytes(flushing)

    def set(self, flushing: bool) -> None:
        """Change the environment of the current thread."""
        self._library.fesetenv(self._flushing if flushing else self._usual)


def _load_environments() -> _FloatEnvironments | None:
    try:
        return _FloatEnvironments()
    except (KeyError, OSError, AttributeError):
        return None


_ENVIRONMENTS = _load_environments()
"""None on a machine where this module cannot set them."""


RunSession = Callable[[Sequence[str], dict[str, Array], Any], list[Array]]
"""Runs a graph: output names, arrays by input name, and the runtime's run options or ``None``."""


@contextmanager
def around_session(options: SessionOptions) -> Iterator[None]:
    """Set the environment while a session is created: its pool starts as the options require, and the current thread is
    restored at the end.

    Raises:
        LoadFailed: the options ask for what this machine cannot do.
    """
    flushing = is_requested(options)
    if _ENVIRONMENTS is None:
        yield
        return
    _ENVIRONMENTS.set(flushing)
    try:
        yield
    finally:
        _ENVIRONMENTS.set(flushing=False)


def as_asked(run: RunSession, options: SessionOptions) -> RunSession:
    """Return the same run, with denormal numbers as zero on the calling thread if the options require it. That costs
    about a microsecond a run.

    That costs about a microsecond a run.

    Raises:
        LoadFailed: as ``around_session``.
    """
    environments = _ENVIRONMENTS
    if not is_requested(options) or environments is None:
        return run

    def flushing(outputs: Sequence[str], feeds: dict[str, Array], run_options: Any) -> list[Array]:
        environments.set(flushing=True)
        try:
            return run(outputs, feeds, run_options)
        finally:
            environments.set(flushing=False)

    return flushing


def is_requested(options: SessionOptions) -> bool:
    """Whether the options want denormal numbers as zero.

    Raises:
        LoadFailed: as ``around_session``.
    """
    asked = dict(options.entries).get(ENTRY) == "1"
    if asked and _ENVIRONMENTS is None:
        raise LoadFailed(f"{ENTRY} is not supported on this machine ({platform.machine()}); leave it out")
    return asked
