"""The program of the sandbox's process; it imports without collections, which would take a tenth of the time."""

import gc
import os
import signal

from penstock.engine.method_cache import SANDBOX, MethodCache, cache_file


def main() -> None:
    """Run a sandbox until its input ends; does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which then ends this process
    gc.disable()
    cache = MethodCache(cache_file(SANDBOX))
    with cache.in_use():
        from penstock.registry.admission.sandbox import Sandbox  # noqa: PLC0415 - see above
    cache.save()
    gc.enable()
    Sandbox().run()
    os._exit(0)  # nothing is left to do, and the interpreter takes longer to clear its memory than the kernel


if __name__ == "__main__":
    main()
