"""The environment of a worker: what it sets (threads of libraries, the heap of the C library), and what it leaves out.

It is the same for a worker that is forked at the start and for one that replaces it later.
"""

from collections.abc import Mapping
from typing import Final

LIBRARY_THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""The thread pools of numpy, which serving never uses; starting them costs 0.1 s of processor time."""

TUNABLES: Final = "GLIBC_TUNABLES"
MALLOC: Final = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4194304"
"""Large allocations in huge pages, where the kernel offers them and while a model is loaded (``engine.heap``), and
always in mappings of their own: weights of 100 MiB are freed in 0.5 instead of 6 ms, and the interpreter's lock is held
meanwhile (docs/adr/0009)."""

_LEFT_OUT: Final = ("PENSTOCK_", "AWS_", "NOTIFY_SOCKET", "WATCHDOG_")
"""Starts of names that no worker needs: settings, which it gets in a file, credentials of the object store, and the
service manager of its gateway."""

_SECRETS: Final = ("_TOKEN", "_PASSWORD", "_SECRET", "_KEY", "PGPASSWORD")
"""Ends of names of variables that hold a secret."""


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a worker sees of the environment of its gateway: it runs the models of others, so no credentials."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_LEFT_OUT) and not name.endswith(_SECRETS)
    }
    return {**dict.fromkeys(LIBRARY_THREADS, "1"), **kept}
