"""What the environment of a worker sets: threads of libraries, and the heap of the C library."""

from typing import Final

LIBRARY_THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""The thread pools of numpy, which serving never uses; starting them costs 0.1 s of processor time."""

TUNABLES: Final = "GLIBC_TUNABLES"
MALLOC: Final = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4194304"
"""Large allocations in huge pages, where the kernel offers them and while a model is loaded (``engine.heap``), and
always in mappings of their own: weights of 100 MiB are freed in 0.5 instead of 6 ms, and the interpreter's lock is held
meanwhile (docs/adr/0009)."""
