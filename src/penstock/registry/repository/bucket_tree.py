"""A repository in an S3-compatible bucket: watched by listing it, and read as of the last listing."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from penstock.core.bounded_cache import BoundedCache
from penstock.core.errors import InvalidInput, NotFound, NotReady, TooLarge
from penstock.registry.blobs.bucket import BlobObject, Bucket
from penstock.registry.blobs.folder import translating_errors
from penstock.registry.files import MAX_TEXT_BYTES
from penstock.registry.repository.tree import TreeEntry

MOST_OBJECTS = 100_000
MOST_TEXTS = 1000
MOST_TEXT_BYTES = 64 << 20
"""Configurations to cache, so that each is fetched once, and their size together."""


class BucketTree:
    """The objects below ``s3://BUCKET/PREFIX``; see ``Tree``."""

    def __init__(self, url: str) -> None:
        """Create the client, without a request to the bucket; raises ``InvalidInput``."""
        self.name = url
        self._bucket = Bucket(url, "the model bucket")
        self._objects: dict[str, BlobObject] = {}
        self._folders: dict[str, dict[str, TreeEntry]] = {}
        self._texts: BoundedCache[tuple[str, str], str] = BoundedCache(MOST_TEXTS, MOST_TEXT_BYTES)

    def refresh(self) -> None:
        """See ``Tree``."""
        objects: dict[str, BlobObject] = {}
        for item in self._bucket.objects():
            if len(objects) >= MOST_OBJECTS:
                raise InvalidInput(f"the model bucket holds more than {MOST_OBJECTS} objects below its prefix")
            if _is_plain(item.key):
                objects[item.key] = item
        self._objects, self._folders = objects, _group_folders(objects.values())

    def entries(self, folder: str) -> Sequence[TreeEntry]:
        """See ``Tree``."""
        entries = self._folders.get(folder, {})
        return [entries[name] for name in sorted(entries)]

    def read(self, path: str, what: str) -> str:
        """See ``Tree``."""
        item = self._find_object(path, what)
        key = (path, item.tag)
        text = self._texts.get(key)
        if text is None:
            text = self._fetch(path, item, what)
            self._texts.put(key, text, item.size)
        return text

    def _fetch(self, path: str, item: BlobObject, what: str) -> str:
        if item.size > MAX_TEXT_BYTES:
            raise InvalidInput(f"{what} is longer than {MAX_TEXT_BYTES} bytes")
        try:
            return b"".join(self._bucket.read(path, item.size, item.tag)).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidInput(f"{what} is not UTF-8 text") from None
        except NotFound:
            raise InvalidInput(f"{what} is missing") from None

    def copy(self, path: str, target: Path, limit: int) -> None:
        """See ``Tree``."""
        item = self._find_object(path, "the file")
        if item.size > limit:
            raise TooLarge(f"the model's files are longer than admission allows ({limit} bytes left)")
        with translating_errors(), target.open("xb") as file:
            try:
                for piece in self._bucket.read(path, item.size, item.tag):
                    file.write(piece)
            except NotFound:
                raise NotReady("a file was deleted while it was fetched; try again later") from None
            if file.tell() != item.size:
                raise NotReady("a file was not fetched completely; try again later")
            os.fchmod(file.fileno(), 0o400)

    def _find_object(self, path: str, what: str) -> BlobObject:
        try:
            return self._objects[path]
        except KeyError:
            raise InvalidInput(f"{what} is missing") from None


def _is_plain(key: str) -> bool:
    """Return whether a key is a valid path of a file that is not hidden."""
    return all(part and not part.startswith(".") and "\0" not in part and "\\" not in part for part in key.split("/"))


def _group_folders(objects: Iterable[BlobObject]) -> dict[str, dict[str, TreeEntry]]:
    """Return the entries of each folder; an object with the name of a folder only stands for the folder."""
    folders: dict[str, dict[str, TreeEntry]] = {}
    for item in objects:
        folder, _, name = item.key.rpartition("/")
        folders.setdefault(folder, {}).setdefault(name, TreeEntry(name, is_folder=False, tag=f"{item.size}-{item.tag}"))
        while folder:
            folder, _, name = folder.rpartition("/")
            folders.setdefault(folder, {})[name] = TreeEntry(name, is_folder=True)
    return folders
