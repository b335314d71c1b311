"""Contents by their digest: received into a file of their own, then kept for good under the digest's name.

Layout of a folder of blobs: ``sha256/ab/<hex>``, read-only files; a name that is there has its whole content.
"""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, Self

from penstock.core.errors import Damaged, Fault, NotReady, TooLarge, storage_fault
from penstock.engine.durable_files import sync
from penstock.engine.scratch import scratch_file, sweep

PREFIX = "sha256:"
CHUNK = 1 << 20
_PIECE = 4 << 20
"""Hashed in large pieces: between them the interpreter's lock is taken, which requests wait for."""

GONE = "its content is missing from the blob store"
CHANGED = "its content does not match its digest"


def fault_of(error: OSError) -> Fault:
    """What a failure of the file system means; the text names no path."""
    return storage_fault(error) or NotReady("the registry's files cannot be read or written")


@contextmanager
def named_failures() -> Iterator[None]:
    """Let failures of the file system leave the block as faults."""
    try:
        yield
    except OSError as error:
        raise fault_of(error) from None


class Blobs(Protocol):
    """Keeps contents by digest (``sha256:`` and hex); blocking, for any thread.

    Every method raises ``NotReady`` while the contents cannot be reached or written.
    """

    def keep(self, incoming: Path, digest: str) -> None:
        """Take a file with this content over; durable when it returns. The same content again changes nothing."""

    def fetch(self, digest: str) -> Path:
        """A file of this machine with the content, not to be changed.

        Raises:
            Damaged: it is gone.
        """

    def check(self, digest: str) -> None:
        """Read the whole content.

        Raises:
            Damaged: it is gone, or not what the digest names.
        """

    def delete(self, digest: str) -> None:
        """Delete a content, if it is there."""

    def stored(self) -> Iterator[tuple[str, float]]:
        """Every content's digest and age in seconds."""


class Incoming:
    """A file that is being received, removed at the end unless it was kept; hashed as it comes.

    ``limit`` bounds its bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        with named_failures():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(folder)
            self._scratch = scratch_file(folder, "incoming")
        self.path = self._scratch.path
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of what has come so far."""
        return PREFIX + self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            TooLarge: that is more than the limit.
            NotReady: there is no room for them.
        """
        self.size += len(chunk)
        if self.size > self._limit:
            raise TooLarge(f"the content is longer than {self._limit} bytes")
        self._hash.update(chunk)
        with named_failures():
            self._scratch.write(chunk)

    def close(self) -> None:
        """The last byte has come: have it on the disk."""
        with named_failures():
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
        """See ``Blobs``."""
        place = self._place(digest)
        with named_failures():
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            incoming.chmod(0o400)
            incoming.replace(place)  # over a content that is there: a damaged one is made good
            for folder in (place.parent, place.parent.parent, self._root.parent):
                sync(folder)

    def fetch(self, digest: str) -> Path:
        """See ``Blobs``."""
        place = self._place(digest)
        with named_failures():
            if not place.is_file():
                raise Damaged(GONE)
        return place

    def check(self, digest: str) -> None:
        """See ``Blobs``."""
        if hash_file(self.fetch(digest)) != digest:
            raise Damaged(CHANGED)

    def delete(self, digest: str) -> None:
        """See ``Blobs``."""
        with named_failures():
            self._place(digest).unlink(missing_ok=True)

    def stored(self) -> Iterator[tuple[str, float]]:
        """See ``Blobs``."""
        with named_failures():
            for path in sorted(self._root.glob("??/*")):
                with suppress(FileNotFoundError):
                    yield PREFIX + path.name, self._clock() - path.stat().st_mtime

    def _place(self, digest: str) -> Path:
        name = hex_of(digest)
        return self._root / name[:2] / name


def hex_of(digest: str) -> str:
    """The hex part of a digest, which is safe as a file name.

    Raises:
        Damaged: it is no digest.
    """
    name = digest.removeprefix(PREFIX)
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise Damaged("its digest is none")
    return name


def hash_file(path: Path) -> str:
    """The digest of a file's bytes.

    Raises:
        Damaged: it is gone.
        NotReady: it cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            hashed, piece = hashlib.sha256(), memoryview(bytearray(_PIECE))
            while size := file.readinto(piece):
                hashed.update(piece[:size])
            return PREFIX + hashed.hexdigest()
    except FileNotFoundError:
        raise Damaged(GONE) from None
    except OSError as error:
        if error.errno == errno.EIO:
            raise Damaged("its content cannot be read") from None
        raise fault_of(error) from None
