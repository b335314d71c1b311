"""Contents by their digest: each is received into a file of its own, and then stored under the name of its digest.

A folder of blobs has read-only files ``sha256/ab/<hex>``; an existing file is always complete.
"""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, Self

from penstock.core.errors import DataLoss, Fault, NotReady, TooLarge, storage_fault
from penstock.engine.durable_files import sync
from penstock.engine.scratch import scratch_file, sweep

PREFIX = "sha256:"
CHUNK = 1 << 20
_PIECE = 4 << 20
"""Files are hashed in large pieces, because the interpreter's lock is taken between them and requests wait for it."""

GONE = "its content is missing from the blob store"
CHANGED = "its content does not match its digest"


def fault_of(error: OSError) -> Fault:
    """Return the fault for an error of the file system; the text has no path."""
    return storage_fault(error) or NotReady("the registry's files cannot be read or written")


@contextmanager
def translating_errors() -> Iterator[None]:
    """Raise errors of the file system within the block as faults."""
    try:
        yield
    except OSError as error:
        raise fault_of(error) from None


class BlobStore(Protocol):
    """Stores contents by digest (``sha256:`` and hex). Calls block; any thread may make them.

    Every method raises ``NotReady`` while the contents cannot be reached or written.
    """

    def keep(self, incoming: Path, digest: str) -> None:
        """Move a file with this content into the store, durably; a content that is stored already stays the same."""

    def fetch(self, digest: str) -> Path:
        """Return a local file with the content, which must not be changed.

        Raises:
            Damaged: the content is missing.
        """

    def check(self, digest: str) -> None:
        """Read the whole content.

        Raises:
            Damaged: it is missing, or does not match its digest.
        """

    def delete(self, digest: str) -> None:
        """Delete a content, if it is stored."""

    def stored(self) -> Iterator[tuple[str, float]]:
        """Yield the digest and the age in seconds of every content."""


class IncomingFile:
    """A file that is being received and hashed; it is deleted on exit unless it was moved into a store.

    ``limit`` is the greatest number of bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        with translating_errors():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(folder)
            self._scratch = scratch_file(folder, "incoming")
        self.path = self._scratch.path
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of the bytes so far."""
        return PREFIX + self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append the next bytes.

        Raises:
            TooLarge: the content exceeds the limit.
            NotReady: the disk is full.
        """
        self.size += len(chunk)
        if self.size > self._limit:
            raise TooLarge(f"the content is longer than {self._limit} bytes")
        self._hash.update(chunk)
        with translating_errors():
            self._scratch.write(chunk)

    def close(self) -> None:
        """Flush the complete file to the disk."""
        with translating_errors():
            os.fsync(self._scratch.handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.discard()


class FolderBlobs:
    """Blobs in a folder of this machine; ``clock`` gives seconds since the epoch."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._root = root / "sha256"
        self._clock = clock

    def keep(self, incoming: Path, digest: str) -> None:
        """See ``BlobStore``."""
        path = self._place(digest)
        with translating_errors():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            incoming.chmod(0o400)
            incoming.replace(path)  # also replaces a damaged content
            for folder in (path.parent, path.parent.parent, self._root.parent):
                sync(folder)

    def fetch(self, digest: str) -> Path:
        """See ``BlobStore``."""
        path = self._place(digest)
        with translating_errors():
            if not path.is_file():
                raise DataLoss(GONE)
        return path

    def check(self, digest: str) -> None:
        """See ``BlobStore``."""
        if hash_file(self.fetch(digest)) != digest:
            raise DataLoss(CHANGED)

    def delete(self, digest: str) -> None:
        """See ``BlobStore``."""
        with translating_errors():
            self._place(digest).unlink(missing_ok=True)

    def stored(self) -> Iterator[tuple[str, float]]:
        """See ``BlobStore``."""
        with translating_errors():
            for path in sorted(self._root.glob("??/*")):
                with suppress(FileNotFoundError):
                    yield PREFIX + path.name, self._clock() - path.stat().st_mtime

    def _place(self, digest: str) -> Path:
        name = hex_of(digest)
        return self._root / name[:2] / name


def hex_of(digest: str) -> str:
    """Return the hex part of a digest, which is safe as a file name.

    Raises:
        Damaged: it is not a digest.
    """
    name = digest.removeprefix(PREFIX)
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise DataLoss("its digest is not valid")
    return name


def hash_file(path: Path) -> str:
    """Return the digest of a file.

    Raises:
        Damaged: the file is missing, or its disk fails.
        NotReady: it cannot be read now.
    """
    with translating_errors():
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DataLoss(GONE) from None
    try:
        return hash_descriptor(handle)
    finally:
        os.close(handle)


def hash_descriptor(handle: int) -> str:
    """Return the digest of an open file from its present position on; raises as ``hash_file``."""
    hashed, piece = hashlib.sha256(), memoryview(bytearray(_PIECE))
    try:
        while size := os.readv(handle, [piece]):
            hashed.update(piece[:size])
    except OSError as error:
        if error.errno == errno.EIO:
            raise DataLoss("its content cannot be read") from None
        raise fault_of(error) from None
    return PREFIX + hashed.hexdigest()
