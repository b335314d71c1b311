"""System shared memory that clients register: named regions of the segments that the operator allows.

A client's key is checked against the names of the setting; nothing else is opened. Each region has an owner, the caller
who registered it: for everybody else it does not exist, and nobody else registers a region of the same segment. Workers
share what is registered through a file of the running instance. Segments are read and written through file descriptors
and never mapped: a client that truncates a segment while it is in use gets an error, where touching mapped memory would
end the worker.
"""

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from penstock.core.errors import AlreadyExists, Fault, InvalidInput, NotFound, TooLarge, Unauthorised, Unsupported
from penstock.engine.durable_files import write_atomically

SEGMENTS: Final = Path("/dev/shm")  # noqa: S108 - where the system keeps shared memory
MAX_REGIONS: Final = 1024
MAX_NAME: Final = 256
"""Maximum characters of a region's name."""

MAX_TENSOR_BYTES: Final = 64 << 20
"""Default maximum of bytes of one tensor in shared memory."""

_KEY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_SEGMENT_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe of that name must not hold the loop up


@dataclass(frozen=True, slots=True)
class SharedRegion:
    """A part of a segment as registered by ``owner`` (see ``CallerAccess.owner``); ``offset`` and ``byte_size`` in
    bytes.
    """

    name: str
    key: str
    offset: int
    byte_size: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class RegionSpan:
    """The ``size`` bytes from ``offset`` on in a registered region: where a tensor is read or written.

    The segment is opened for each use. All workers therefore see the segment that has the name now.
    """

    region: SharedRegion
    offset: int
    size: int

    def read(self) -> bytes:
        """Return a copy of the bytes: monitor and shadows read inputs after the answer, when the caller writes the next
        ones.

        Raises:
            InvalidInput: the segment is gone, or has become smaller.
        """
        handle = self._open_segment(os.O_RDONLY)
        try:
            read = os.pread(handle, self.size, self.region.offset + self.offset)
        finally:
            os.close(handle)
        if len(read) < self.size:
            raise self._truncated_fault()
        return read

    def put(self, output: str, raw: bytes) -> None:
        """Write an output's raw bytes to the beginning of the span.

        Raises:
            InvalidInput: the region is too small, or the segment is gone, full, read only or smaller than it was.
        """
        if len(raw) > self.size:
            raise InvalidInput(f"output '{output}' has {len(raw)} bytes; its shared memory has {self.size}")
        start = self.region.offset + self.offset
        handle = self._open_segment(os.O_WRONLY)
        try:
            if start + len(raw) > os.fstat(handle).st_size:  # writing would make it longer
                raise self._truncated_fault()
            if os.pwrite(handle, raw, start) < len(raw):
                raise self._unusable()
        except OSError:
            raise self._unusable() from None
        finally:
            os.close(handle)

    def _open_segment(self, mode: int) -> int:
        try:
            return _open(self.region.key, mode)
        except OSError:
            raise self._unusable() from None

    def _truncated_fault(self) -> Fault:
        return InvalidInput(
            f"the segment of shared memory region '{self.region.name}' is smaller than when it was registered"
        )

    def _unusable(self) -> Fault:
        return InvalidInput(f"the segment of shared memory region '{self.region.name}' cannot be used; create it again")


class SharedRegions:
    """The regions of one worker; ``allowed`` are names of segments, where a ``*`` at the end allows every name with
    this prefix, and ``file`` stores the registered regions for all workers. Without both, shared memory is off. Unless
    it ``is_controllable``, clients register and unregister nothing.
    """

    def __init__(
        self,
        allowed: Sequence[str] = (),
        file: Path | None = None,
        max_tensor_bytes: int = MAX_TENSOR_BYTES,
        *,
        is_controllable: bool = True,
    ) -> None:
        self._is_controllable = is_controllable
        names = [name.removeprefix("/") for name in allowed]
        self._names = frozenset(name for name in names if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
        self._file = file if names else None
        self._max_tensor_bytes = max_tensor_bytes
        self._read: tuple[int, int] | None = None
        self._regions: dict[tuple[str, str], SharedRegion] = {}  # by owner and name

    @property
    def is_enabled(self) -> bool:
        """Whether any segment is allowed."""
        return self._file is not None

    def register(self, region: SharedRegion) -> None:
        """Register a region.

        Raises:
            Unsupported: shared memory is off.
            Unauthorised: clients do not register regions here.
            InvalidInput: its segment is not allowed, not there or too small, or there are too many regions.
            AlreadyExists: the owner has a region of this name, or another caller has one of this segment.
        """
        self.path_or_raise()
        self._check_control()
        if not 0 < len(region.name) <= MAX_NAME:
            raise InvalidInput(f"a region's name has 1 to {MAX_NAME} characters")
        self._check(region)
        with self._locked_update():
            if (region.owner, region.name) in self._regions:
                raise AlreadyExists(f"shared memory region '{region.name}' is registered already; unregister it first")
            self._check_segment(region)
            if len(self._regions) >= MAX_REGIONS:
                raise InvalidInput(f"there are {MAX_REGIONS} shared memory regions already; unregister some first")
            self._regions[region.owner, region.name] = region

    def unregister(self, name: str = "", owner: str = "") -> None:
        """Unregister a region of ``owner``, or all of them; an unknown name is not an error.

        Raises:
            Unauthorised: clients do not unregister regions here.
        """
        if self._file is None:
            return
        self._check_control()
        with self._locked_update():
            for region in self._find(name, owner):
                del self._regions[owner, region.name]

    def status(self, name: str = "", owner: str = "") -> list[SharedRegion]:
        """Return one region of ``owner``, or all; raises ``NotFound`` if there is none with that name."""
        if self._file is not None:
            self._refresh(self._file)
        found = self._find(name, owner)
        if name and not found:
            raise NotFound(f"unknown shared memory region '{name}'")
        return found

    def span(self, name: str, offset: int, size: int, owner: str = "") -> RegionSpan:
        """Return the span of ``size`` bytes from ``offset`` on in a region of ``owner``; any thread may call it.

        Raises:
            Unsupported: shared memory is off.
            InvalidInput: the owner has no such region, or it is smaller.
            TooLarge: no tensor may have so many bytes.
        """
        self._refresh(self.path_or_raise())
        region = self._regions.get((owner, name))
        if region is None:
            raise InvalidInput(f"unknown shared memory region '{name}'; register it first")
        if not 0 <= offset <= region.byte_size or not 0 <= size <= region.byte_size - offset:
            whole = f"the shared memory region '{name}' of {region.byte_size} bytes"
            raise InvalidInput(f"{size} bytes from {offset} on are not inside {whole}")
        if size > self._max_tensor_bytes:
            raise TooLarge(f"{size} bytes of shared memory are over the limit of {self._max_tensor_bytes} bytes")
        return RegionSpan(region, offset, size)

    def path_or_raise(self) -> Path:
        """Return the file of registered regions; raises ``Unsupported`` if shared memory is off."""
        if self._file is None:
            raise Unsupported("shared memory is not offered here; send tensor data in the request")
        return self._file

    def _find(self, name: str, owner: str) -> list[SharedRegion]:
        """Return the region of ``owner`` with this name, or all of them."""
        return [region for region in self._regions.values() if region.owner == owner and name in ("", region.name)]

    def _check_segment(self, region: SharedRegion) -> None:
        """Refuse a segment of which another caller has a region: the segment has the tensors of that caller."""
        segment = _segment_of(region.key)
        if any(item.owner != region.owner and _segment_of(item.key) == segment for item in self._regions.values()):
            raise AlreadyExists("another caller has registered a region of this shared memory; use a key of your own")

    def _check_control(self) -> None:
        if not self._is_controllable:
            raise Unauthorised("shared memory is not registered by this port; the setting repository_control allows it")

    def _check(self, region: SharedRegion) -> None:
        if not self._allows(region.key):
            raise InvalidInput("this shared memory key is not allowed; the setting shared_memory names those that are")
        if region.byte_size < 1 or region.offset < 0:
            raise InvalidInput("a shared memory region has an offset of at least 0 and at least one byte")
        try:
            handle = _open(region.key, os.O_RDONLY)
        except OSError:
            raise InvalidInput("there is no shared memory with this key") from None
        size = os.fstat(handle).st_size
        os.close(handle)
        if region.offset + region.byte_size > size:
            raise InvalidInput(f"the shared memory has {size} bytes; the region would end after them")

    def _allows(self, key: str) -> bool:
        name = _segment_of(key)
        return _KEY.fullmatch(name) is not None and (name in self._names or name.startswith(self._prefixes))

    # What all workers know.

    def _refresh(self, file: Path) -> None:
        """Read changes of other workers."""
        try:
            status = file.stat()
        except FileNotFoundError:
            return
        read = status.st_mtime_ns, status.st_ino
        if read != self._read:
            stored = [SharedRegion(**load) for load in json.loads(file.read_text())]
            self._regions = {(region.owner, region.name): region for region in stored}
            self._read = read

    @contextmanager
    def _locked_update(self) -> Iterator[None]:
        """Lock the file: one worker at a time changes the registered regions."""
        file = self.path_or_raise()
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._refresh(file)
            before = dict(self._regions)
            try:
                yield
            except Exception:
                self._regions = before
                raise
            write_atomically(file, json.dumps([asdict(region) for region in self._regions.values()]))
            self._read = None
            self._refresh(file)


def _segment_of(key: str) -> str:
    """Return the name of the segment that a client's key means: the slash at its beginning may be left out."""
    return key.removeprefix("/")


def _open(key: str, mode: int) -> int:
    """Return a descriptor of a segment; raises ``OSError`` if there is none, or if it is not a regular file."""
    handle = os.open(SEGMENTS / _segment_of(key), mode | _SEGMENT_FLAGS)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(key)
    return handle
