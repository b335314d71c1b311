"""A worker that does nothing but write its environment to standard error, for the tests of workers' environments."""

import json
import os

SETS_ITSELF = ("GLIBC_TUNABLES", "LC_CTYPE")
"""What only a new interpreter has: the heap of a worker, and Python's own locale (PEP 538)."""

if __name__ == "__main__":
    shown = sorted(item for item in os.environ.items() if item[0] not in SETS_ITSELF)
    os.write(2, json.dumps(shown).encode() + b"\n")
