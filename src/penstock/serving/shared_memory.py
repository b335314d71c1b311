"""System shared memory that clients have registered: named parts of segments that the operator allows by name.

A client says by which of the allowed names a segment goes; no name of a client's ever reaches the file system. What one
worker is told all of them find in a file of the gateway's own. Clients that shrink a segment while it is in use end the
worker that touches it, so this is for clients one trusts; without allowed names it is off.
"""

import fcntl
import json
import mmap
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from penstock.core.errors import Conflict, InvalidInput, NotFound, Unsupported

SEGMENTS = Path("/dev/shm")  # noqa: S108 - where the system keeps shared memory; names in it are the operator's
MOST_REGIONS = 1024
LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a segment, as a client has registered it; bytes."""

    name: str
    key: str
    offset: int
    byte_size: int


class Regions:
    """Those of one worker; ``allowed`` are the segments' names, and in ``file`` all workers keep what is registered."""

    def __init__(self, allowed: Sequence[str] = (), file: Path | None = None) -> None:
        self._paths = {name: SEGMENTS / name.lstrip("/") for name in allowed}
        self._file = file
        self._read: tuple[int, int] | None = None
        self._regions: dict[str, Region] = {}
        self._views: dict[Region, memoryview] = {}

    @property
    def offered(self) -> bool:
        """Whether any segment is allowed."""
        return bool(self._paths) and self._file is not None

    def register(self, region: Region) -> None:
        """Have a region known by its name.

        Raises:
            Unsupported: shared memory is off.
            InvalidInput: its segment is not allowed, not there or too small.
            Conflict: the name is taken.
        """
        self._look()
        if not 0 < len(region.name) <= LONGEST_NAME:
            raise InvalidInput(f"a region's name has 1 to {LONGEST_NAME} characters")
        self._mapped(region)
        with self._changing():
            if region.name in self._regions:
                raise Conflict(f"there is a shared memory region '{region.name}' already")
            if len(self._regions) >= MOST_REGIONS:
                raise InvalidInput(f"there are {MOST_REGIONS} shared memory regions already")
            self._regions[region.name] = region

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all of them; one that is not there is forgotten already. Raises ``Unsupported``."""
        with self._changing():
            if name:
                self._regions.pop(name, None)
            else:
                self._regions.clear()

    def status(self, name: str = "") -> list[Region]:
        """What is registered.

        Raises:
            Unsupported: shared memory is off.
            NotFound: nothing by that name.
        """
        self._look()
        if name and name not in self._regions:
            raise NotFound(f"unknown shared memory region '{name}'")
        return [self._regions[name]] if name else list(self._regions.values())

    def view(self, name: str, offset: int, size: int) -> memoryview:
        """So many bytes of a region.

        Raises:
            Unsupported: shared memory is off.
            InvalidInput: there is no such region, or it is smaller.
        """
        self._look()
        region = self._regions.get(name)
        if region is None:
            raise InvalidInput(f"unknown shared memory region '{name}'; register it first")
        if not 0 <= offset <= region.byte_size or not 0 <= size <= region.byte_size - offset:
            whole_size = f"the shared memory region '{name}' of {region.byte_size} bytes"
            raise InvalidInput(f"{size} bytes from {offset} on are not inside {whole_size}")
        whole = self._views.get(region)
        if whole is None:
            whole = self._views[region] = self._mapped(region)
        return whole[offset : offset + size]

    def _mapped(self, region: Region) -> memoryview:
        path = self._paths.get(region.key)
        if path is None:
            raise InvalidInput("this shared memory key is not allowed; the setting shared_memory names those that are")
        try:
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise InvalidInput("there is no shared memory with this key") from None
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or region.byte_size < 1 or region.offset < 0:
                raise InvalidInput("a shared memory region has an offset of at least 0 and at least one byte")
            if region.offset + region.byte_size > found.st_size:
                raise InvalidInput(f"the shared memory has {found.st_size} bytes; the region would end beyond them")
            whole = memoryview(mmap.mmap(handle, region.offset + region.byte_size))
        finally:
            os.close(handle)
        return whole[region.offset :]

    # What all workers know.

    def require(self) -> Path:
        """Where workers keep what is registered. Raises ``Unsupported``: shared memory is off."""
        if self._file is None or not self._paths:
            raise Unsupported("shared memory is not offered here; send tensor data in the request")
        return self._file

    def _look(self) -> None:
        """Read again what another worker has changed."""
        file = self.require()
        try:
            found = file.stat()
        except FileNotFoundError:
            return
        read = found.st_mtime_ns, found.st_ino
        if read != self._read:
            self._regions = {one["name"]: Region(**one) for one in json.loads(file.read_text())}
            self._views = {one: view for one, view in self._views.items() if self._regions.get(one.name) == one}
            self._read = read

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One worker at a time changes what is registered."""
        file = self.require()
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._look()
            before = dict(self._regions)
            try:
                yield
            except Exception:
                self._regions = before
                raise
            part = file.with_suffix(".part")
            part.write_text(json.dumps([asdict(one) for one in self._regions.values()]))
            part.replace(file)
            self._read = None
            self._look()
