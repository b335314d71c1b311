"""Keeps the bytecode of the methods that dataclasses generate, as Python keeps that of modules.

``dataclasses`` writes the methods of a class as source text and executes it; to compile the text of all classes takes a
quarter of a start. Here it gets an ``exec`` that looks for the bytecode of the same text in a file in `__pycache__`,
beside the bytecode of this package. Both have the same trust: who can write there can change every module. A Python
whose ``dataclasses`` do this in another way compiles as before.
"""

import builtins
import dataclasses
import hashlib
import marshal
import subprocess
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import MAGIC_NUMBER, cache_from_source
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from penstock.engine.shared_methods import share_methods

GATEWAY: Final = "gateway"
SANDBOX: Final = "sandbox"

PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    GATEWAY: ("penstock.config.settings", "penstock.app.worker", "penstock.app.gateway"),
    SANDBOX: ("penstock.registry.admission.sandbox",),
}
"""What a start of each program imports."""

_NAME: Final = "exec"
_KEY_BYTES: Final = 16
_END_BYTES: Final = array("I").itemsize
_UNREADABLE: Final = (OSError, EOFError, ValueError, TypeError)


def cache_file(program: str) -> Path:
    """Return the file of a program."""
    bytecode = Path(cache_from_source(__file__))
    return bytecode.with_name(f"{bytecode.stem}.{program}.methods")


class StoredCode:
    """The marshalled bytecode of source texts: their digests one after the other, where each bytecode ends, and all
    bytecode; in few objects, which leave no holes in the memory of a process when they are freed.

    Raises:
        ValueError, TypeError: the parts do not belong together.
    """

    def __init__(self, keys: bytes = b"", ends: bytes = b"", code: bytes = b"") -> None:
        if not all(isinstance(part, bytes) for part in (keys, ends, code)):
            raise TypeError
        if len(keys) * _END_BYTES != len(ends) * _KEY_BYTES:
            raise ValueError
        self._keys = keys
        self._ends = memoryview(ends).cast("I")
        self._code = code
        self._next = 0  # texts come in the order of the start before

    def get(self, key: bytes) -> bytes | None:
        """Return the bytecode for a digest, None if there is none."""
        at = self._find(key, self._next)
        if at < 0:
            at = self._find(key, 0)
        if at < 0:
            return None
        self._next = at + _KEY_BYTES
        index = at // _KEY_BYTES
        return self._code[self._ends[index - 1] if index else 0 : self._ends[index]]

    def _find(self, key: bytes, start: int) -> int:
        at = self._keys.find(key, start)
        while at % _KEY_BYTES and at >= 0:
            at = self._keys.find(key, at + 1)
        return at


def pack_codes(entries: Mapping[bytes, bytes]) -> tuple[bytes, bytes, bytes]:
    """Return the parts of a ``StoredCode`` with this bytecode by digest."""
    return b"".join(entries), array("I", accumulate(map(len, entries.values()))).tobytes(), b"".join(entries.values())


class MethodCache:
    """The bytecode in one file. Of one thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stored = StoredCode()
        self._used: dict[bytes, None] = {}
        self._new: dict[bytes, bytes] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within the block, dataclasses are made with what is stored; it is in memory only there."""
        self._stored = _read(self._file)
        vars(dataclasses)[_NAME] = self._execute
        try:
            with share_methods():
                yield
        finally:
            del vars(dataclasses)[_NAME]
            self._stored = StoredCode()

    def _execute(self, source: str, *places: dict[str, Any]) -> None:
        builtins.exec(self._code(source), *places)  # noqa: S102 - what dataclasses execute

    def _code(self, source: str) -> Any:
        key = hashlib.blake2b(source.encode(), digest_size=_KEY_BYTES).digest()
        self._used[key] = None
        stored = self._stored.get(key)
        if stored is not None:
            with suppress(*_UNREADABLE):
                return marshal.loads(stored)  # noqa: S302 - as Python loads bytecode from the same folder
        code = compile(source, "<string>", "exec", dont_inherit=True)
        self._new[key] = marshal.dumps(code)
        return code

    def save(self) -> None:
        """Store what was used, if some of it is new; where Python writes no bytecode, or cannot, nothing is stored."""
        if self._new and not sys.dont_write_bytecode:
            stored = _read(self._file)
            found = {key: self._new.get(key) or stored.get(key) for key in self._used}
            with suppress(OSError):
                _write(self._file, {key: code for key, code in found.items() if code is not None})
        self._new.clear()


def _read(file: Path) -> StoredCode:
    """Return what a file has; nothing if it is missing, damaged, or of another Python."""
    try:
        magic, *parts = marshal.loads(file.read_bytes())  # noqa: S302 - see above
        return StoredCode(*parts) if magic == MAGIC_NUMBER else StoredCode()
    except _UNREADABLE:
        return StoredCode()


def _write(file: Path, entries: Mapping[bytes, bytes]) -> None:
    """Replace a file, readable by those who can read this module; raises ``OSError``."""
    from penstock.engine.durable_files import replace_file  # noqa: PLC0415 - for one start of many

    with replace_file(file) as scratch:
        scratch.write_bytes(marshal.dumps((MAGIC_NUMBER, *pack_codes(entries))))
        scratch.chmod(Path(__file__).stat().st_mode & 0o666)


def main(programs: Sequence[str]) -> None:
    """Store the bytecode for a start of these programs, by default each in a process of its own: for an installation
    that nobody can write later.

    Raises:
        subprocess.CalledProcessError: a program cannot be imported.
    """
    if not programs:
        for program in PROGRAMS:
            subprocess.run([sys.executable, "-P", "-m", "penstock.engine.method_cache", program], check=True)
    for program in programs:
        cache = MethodCache(cache_file(program))
        with cache.in_use():
            for module in PROGRAMS[program]:
                import_module(module)
        cache.save()


if __name__ == "__main__":
    main(sys.argv[1:])
