"""Where contents lie for serving: a bare graph is served from its blob, a tar's files from a folder made of it."""

import logging
import shutil
from contextlib import suppress
from pathlib import Path

from penstock.core.errors import Damaged, Refused
from penstock.engine.durable_files import sync, sync_tree
from penstock.engine.scratch import Scratch, scratch_folder
from penstock.registry.blobs.folder import CHANGED, PREFIX, Blobs, hash_file, hex_of, named_failures
from penstock.registry.contents.archive import unpack
from penstock.registry.files import beneath
from penstock.registry.graphs.rewrite import Rewrite, write_edited
from penstock.registry.records import Content

log = logging.getLogger("penstock.registry")


class ContentLayout:
    """Lays contents out below ``unpacked``; blocking, for any thread."""

    def __init__(self, blobs: Blobs, unpacked: Path) -> None:
        self._blobs = blobs
        self._unpacked = unpacked

    def place(self, content: Content, rewrite: Rewrite | None = None) -> tuple[Path, Path]:
        """The folder a content lies in, and its graph, changed as admission had it changed; made if it is not there, or
        if its files are not what they were.

        Raises:
            Damaged: the content is gone, or is not what it was.
            NotReady: it cannot be reached, or there is no room.
        """
        if content.form == "onnx" and rewrite is None:
            graph = self._blobs.fetch(content.digest)
            return graph.parent, graph
        folder = self._unpacked / _name(content, rewrite)
        if folder.is_dir() and not _intact(folder, content, rewrite):
            self._take_away(folder)
        if not folder.is_dir():
            self._unpack(content, rewrite, folder)
        return folder, beneath(folder, content.graph, "the graph")

    def _unpack(self, content: Content, rewrite: Rewrite | None, folder: Path) -> None:
        source = self._blobs.fetch(content.digest)
        with self._scratch(folder) as scratch:
            if content.form == "tar":
                _unpacked(source, scratch)
                source = scratch / content.graph
            if rewrite is not None:
                write_edited(source, rewrite, scratch / content.graph)
            with named_failures():
                _move(scratch, folder)

    def _scratch(self, folder: Path) -> Scratch:
        with named_failures():
            self._unpacked.mkdir(mode=0o700, parents=True, exist_ok=True)
            return scratch_folder(self._unpacked, folder.name)

    def _take_away(self, folder: Path) -> None:
        """Take a broken folder away at once, so that nobody finds half of it."""
        log.warning("the files of content %s are not what they were; they are made anew", folder.name)
        with self._scratch(folder) as scratch, named_failures(), suppress(FileNotFoundError):  # somebody was quicker
            folder.rename(scratch / folder.name)

    def forget(self, digest: str) -> None:
        """Take away what was laid out of a content."""
        for folder in self._unpacked.glob(f"{hex_of(digest)}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _name(content: Content, rewrite: Rewrite | None) -> str:
    """The name of a content's folder; one that is changed has the beginning of what comes out in it."""
    changed = "" if rewrite is None else f"-{hex_of(rewrite.digest)[:16]}"
    return hex_of(content.digest) + changed


def _intact(folder: Path, content: Content, rewrite: Rewrite | None) -> bool:
    """Whether a folder's files have the bytes that they should have."""
    digests = {} if content.form == "onnx" else {file.path: PREFIX + file.digest for file in content.files}
    if rewrite is not None:
        digests[content.graph] = PREFIX + hex_of(rewrite.digest)
    try:
        return all(hash_file(folder / path) == digest for path, digest in digests.items())
    except Damaged:  # one is gone
        return False


def _unpacked(source: Path, into: Path) -> None:
    try:
        unpack(source, into)
    except Refused:  # it was taken in once, so the bytes have changed since
        raise Damaged(CHANGED) from None


def _move(scratch: Path, folder: Path) -> None:
    """Have everything on the disk before it has its name: a name that is there has all its files."""
    sync_tree(scratch)
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():  # else somebody was quicker, with the same files
            raise
    sync(folder.parent)
