"""Contents in an S3-compatible bucket, and copies of those that are served on this machine.

Keys and endpoint come from the usual AWS_... variables; objects lie under ``PREFIX/sha256/<hex>``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from penstock.core.errors import Damaged, InvalidInput, NotReady
from penstock.registry.blobs import CHANGED, CHUNK, GONE, PREFIX, FolderBlobs, Incoming, hash_file, hex_of

AWAY = "the registry's bucket cannot be reached; what is served goes on, try again later"
SCHEME = "s3://"
CONNECT_S = 3
REQUEST_S = 60
RETRY_S = 10
PART = 16 << 20
LARGEST = 1 << 44


class BucketBlobs:
    """Blobs in ``s3://BUCKET/PREFIX``; ``cache`` is a folder of this machine. See ``Blobs``."""

    def __init__(self, url: str, cache: Path) -> None:
        """Prepare, without asking the bucket anything.

        Raises:
            InvalidInput: the library is not installed, or the URL names no bucket.
        """
        try:
            import obstore  # noqa: PLC0415 - an extra
            from obstore.exceptions import BaseError, NotFoundError  # noqa: PLC0415
            from obstore.store import S3Store  # noqa: PLC0415
        except ModuleNotFoundError:
            raise InvalidInput("buckets need the extra 's3': pip install 'penstock[s3]'") from None
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        if not bucket:
            raise InvalidInput("blobs: expected s3://BUCKET/PREFIX")
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        self._obstore: Any = obstore
        self._missing: type[Exception] = NotFoundError
        self._failures: tuple[type[Exception], ...] = (BaseError, OSError)
        self._store = S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "timeout": timedelta(seconds=REQUEST_S),
            },
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=RETRY_S)},
        )
        self._cache = FolderBlobs(cache)
        self._incoming = cache / "incoming"

    def keep(self, incoming: Path, digest: str) -> None:
        """See ``Blobs``; the file stays here as the copy to serve from."""
        size = incoming.stat().st_size
        with self._named_failures(), incoming.open("rb") as file:
            self._obstore.put(self._store, _key(digest), file, chunk_size=PART)
            stored = self._obstore.head(self._store, _key(digest))["size"]
        if stored != size:
            raise NotReady("the registry's bucket did not take the whole content; try again")
        self._cache.keep(incoming, digest)

    def fetch(self, digest: str) -> Path:
        """See ``Blobs``."""
        try:
            return self._cache.fetch(digest)
        except Damaged:
            self._download(digest)
            return self._cache.fetch(digest)

    def check(self, digest: str) -> None:
        """See ``Blobs``; a damaged copy on this machine is dropped, so that it is fetched anew."""
        with Incoming(self._incoming, LARGEST) as incoming:
            self._receive(digest, incoming)
        with suppress(Damaged):  # there is no copy
            if hash_file(self._cache.fetch(digest)) != digest:
                self._cache.delete(digest)

    def delete(self, digest: str) -> None:
        """See ``Blobs``."""
        with self._named_failures(), suppress(self._missing):
            self._obstore.delete(self._store, _key(digest))
        self._cache.delete(digest)

    def stored(self) -> Iterator[tuple[str, float]]:
        """See ``Blobs``."""
        now = datetime.now(UTC)
        with self._named_failures():
            for page in self._obstore.list(self._store, "sha256/"):
                for found in page:
                    name = found["path"].rpartition("/")[2]
                    yield PREFIX + name, (now - found["last_modified"]).total_seconds()

    def _download(self, digest: str) -> None:
        with Incoming(self._incoming, LARGEST) as incoming:
            self._receive(digest, incoming)
            incoming.close()
            self._cache.keep(incoming.path, digest)

    def _receive(self, digest: str, incoming: Incoming) -> None:
        with self._named_failures():
            for chunk in self._obstore.get(self._store, _key(digest)).stream(min_chunk_size=CHUNK):
                incoming.write(bytes(chunk))
        if incoming.digest != digest:
            raise Damaged(CHANGED)

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        try:
            yield
        except (self._missing, FileNotFoundError):
            raise Damaged(GONE) from None
        except self._failures:
            raise NotReady(AWAY) from None


def _key(digest: str) -> str:
    return f"sha256/{hex_of(digest)}"
