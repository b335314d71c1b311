"""S3-compatible buckets: a client for one, and the registry's contents in it.

Keys and endpoint come from the usual AWS_... variables; contents have the keys ``PREFIX/sha256/<hex>``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from penstock.core.errors import DataLoss, InvalidInput, NotFound, NotReady
from penstock.registry.blobs.folder import CHANGED, GONE, PREFIX, FolderBlobs, IncomingFile, hash_file, hex_of

SCHEME = "s3://"
CONNECT_S = 3
REQUEST_S = 60
"""Time limit of a request; objects are read in pieces because of it."""

RETRY_S = 10
PART = 16 << 20
LARGEST = 1 << 44


@dataclass(frozen=True, slots=True)
class BlobObject:
    """An object: its key below the prefix, its size in bytes, a tag that changes with its content, and its age in
    seconds."""

    key: str
    size: int
    tag: str
    age_s: float


class Bucket:
    """The objects of ``s3://BUCKET/PREFIX``; ``what`` names the bucket in messages. Calls block; any thread may make
    them.

    Every method raises ``NotReady`` while the bucket cannot be reached, and ``NotFound`` if there is no such object.
    """

    def __init__(self, url: str, what: str) -> None:
        """Create the client, without a request to the bucket.

        Raises:
            InvalidInput: the library is not installed, or the URL has no bucket.
        """
        try:
            import obstore  # noqa: PLC0415 - an extra
            from obstore import exceptions  # noqa: PLC0415
            from obstore.store import S3Store  # noqa: PLC0415
        except ModuleNotFoundError:
            raise InvalidInput("buckets need the extra 's3': pip install 'penstock[s3]'") from None
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        if not bucket:
            raise InvalidInput(f"{what}: expected s3://BUCKET/PREFIX")
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        self._what = what
        self._obstore: Any = obstore
        self._exceptions: Any = exceptions
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

    def objects(self, prefix: str = "") -> Iterator[BlobObject]:
        """Yield every object whose key begins with this prefix."""
        now = datetime.now(UTC)
        with self._translating_errors():
            for page in self._obstore.list(self._store, prefix or None):
                for item in page:
                    age = (now - item["last_modified"]).total_seconds()
                    tag = item.get("e_tag") or item["last_modified"].isoformat()
                    yield BlobObject(item["path"], item["size"], tag, age)

    def size(self, key: str) -> int:
        """Return the size of an object in bytes."""
        with self._translating_errors():
            return int(self._obstore.head(self._store, key)["size"])

    def read(self, key: str, size: int, tag: str = "") -> Iterator[bytes]:
        """Yield the bytes of an object in pieces; with a ``tag``, raise ``NotReady`` if the object has changed."""
        for begin in range(0, size, PART):
            options: dict[str, Any] = {"range": (begin, min(begin + PART, size))}
            if tag.startswith('"'):
                options["if_match"] = tag
            with self._translating_errors():
                piece = bytes(self._obstore.get(self._store, key, options=options).bytes())
            yield piece

    def put(self, key: str, file: IO[bytes]) -> None:
        """Write an object."""
        with self._translating_errors():
            self._obstore.put(self._store, key, file, chunk_size=PART)

    def delete(self, key: str) -> None:
        """Delete an object, if it exists."""
        with suppress(NotFound), self._translating_errors():
            self._obstore.delete(self._store, key)

    @contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except (self._exceptions.NotFoundError, FileNotFoundError):
            raise NotFound(f"{self._what} has no such object") from None
        except self._exceptions.PreconditionError:
            raise NotReady(f"an object of {self._what} changed while it was read; try again later") from None
        except (self._exceptions.BaseError, OSError) as error:
            text = f"{self._what} cannot be reached; serving goes on, try again later"
            raise NotReady(text, f"{text}: {' '.join(str(error).split())[:1000]}") from None


class BucketBlobs:
    """Blobs in ``s3://BUCKET/PREFIX``; ``cache`` is a local folder. See ``Blobs``."""

    def __init__(self, url: str, cache: Path) -> None:
        """Create the client, without a request to the bucket; raises ``InvalidInput``."""
        self._bucket = Bucket(url, "the registry's bucket")
        self._cache = FolderBlobs(cache)
        self._incoming = cache / "incoming"

    def keep(self, incoming: Path, digest: str) -> None:
        """See ``Blobs``; the file stays in the cache for serving."""
        with _missing_as_data_loss():
            with incoming.open("rb") as file:
                self._bucket.put(_make_key(digest), file)
            if self._bucket.size(_make_key(digest)) != incoming.stat().st_size:
                raise NotReady("the registry's bucket did not store the whole content; try again")
        self._cache.keep(incoming, digest)

    def fetch(self, digest: str) -> Path:
        """See ``Blobs``."""
        try:
            return self._cache.fetch(digest)
        except DataLoss:
            self._download(digest)
            return self._cache.fetch(digest)

    def check(self, digest: str) -> None:
        """See ``Blobs``; a damaged copy in the cache is deleted, so that it is fetched again."""
        with IncomingFile(self._incoming, LARGEST) as incoming:
            self._receive(digest, incoming)
        with suppress(DataLoss):  # there is no copy
            if hash_file(self._cache.fetch(digest)) != digest:
                self._cache.delete(digest)

    def delete(self, digest: str) -> None:
        """See ``Blobs``."""
        self._bucket.delete(_make_key(digest))
        self._cache.delete(digest)

    def stored(self) -> Iterator[tuple[str, float]]:
        """See ``Blobs``."""
        for item in self._bucket.objects("sha256/"):
            yield PREFIX + item.key.rpartition("/")[2], item.age_s

    def _download(self, digest: str) -> None:
        with IncomingFile(self._incoming, LARGEST) as incoming:
            self._receive(digest, incoming)
            incoming.close()
            self._cache.keep(incoming.path, digest)

    def _receive(self, digest: str, incoming: IncomingFile) -> None:
        with _missing_as_data_loss():
            for piece in self._bucket.read(_make_key(digest), self._bucket.size(_make_key(digest))):
                incoming.write(piece)
        if incoming.digest != digest:
            raise DataLoss(CHANGED)


@contextmanager
def _missing_as_data_loss() -> Iterator[None]:
    try:
        yield
    except NotFound:
        raise DataLoss(GONE) from None


def _make_key(digest: str) -> str:
    return f"sha256/{hex_of(digest)}"
