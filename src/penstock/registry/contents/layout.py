"""Materializes contents for serving: a bare graph is served from its blob, the files of a tar from a folder."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from penstock.core.errors import DataLoss, Refused
from penstock.engine.durable_files import move_folder
from penstock.engine.scratch import Scratch, scratch_folder
from penstock.registry.blobs.folder import CHANGED, PREFIX, BlobStore, hash_file, hex_of, translating_errors
from penstock.registry.contents.archive import unpack
from penstock.registry.files import find_beneath
from penstock.registry.graphs.rewrite import Rewrite, write_edited
from penstock.registry.records import Content

log = logging.getLogger("penstock.registry")


class ContentLayout:
    """Materializes contents below ``unpacked``. Calls block; any thread may make them."""

    def __init__(self, blobs: BlobStore, unpacked: Path) -> None:
        self._blobs = blobs
        self._unpacked = unpacked

    def materialize(self, content: Content, rewrite: Rewrite | None = None) -> tuple[Path, Path]:
        """Return the folder of a content and its graph, with the ``rewrite`` of admission applied. The folder is
        created if it is missing or damaged.

        Raises:
            Damaged: the content is missing, or does not match its digest.
            NotReady: the content cannot be reached, or the disk is full.
        """
        if content.form == "onnx" and rewrite is None:
            graph = self._blobs.fetch(content.digest)
            return graph.parent, graph
        folder = self._unpacked / _name(content, rewrite)
        if folder.is_dir() and not _is_intact(folder, content, rewrite):
            self._take_away(folder)
        if not folder.is_dir():
            self._unpack(content, rewrite, folder)
        return folder, find_beneath(folder, content.graph, "the graph")

    def _unpack(self, content: Content, rewrite: Rewrite | None, folder: Path) -> None:
        source = self._blobs.fetch(content.digest)
        with self._scratch(folder) as scratch:
            if content.form == "tar":
                _unpack(source, scratch)
                source = scratch / content.graph
            if rewrite is not None:
                write_edited(source, rewrite, scratch / content.graph)
            with translating_errors():
                move_folder(scratch, folder)  # not, if another thread or process was quicker with the same files

    def signature_folder(self, content: Content) -> Path:
        """Return the folder for the bundles of versions with this content; it is deleted with those of the content."""
        return self._unpacked / f"{hex_of(content.digest)}-signatures"

    @contextmanager
    def original(self, content: Content) -> Iterator[Path]:
        """Return a copy of the graph as it was pushed, which nobody else changes, during the block.

        Raises:
            Damaged: the content is missing, or does not match its digest.
            NotReady: the content cannot be reached, or the disk is full.
        """
        source = self._blobs.fetch(content.digest)
        with self._scratch(self._unpacked / "original") as scratch:
            if content.form == "tar":
                _unpack(source, scratch)
            else:
                with translating_errors():
                    shutil.copyfile(source, scratch / content.graph)
            graph = find_beneath(scratch, content.graph, "the graph")
            if hash_file(graph) != PREFIX + _graph_digest(content):
                raise DataLoss(CHANGED)
            yield graph

    def _scratch(self, folder: Path) -> Scratch:
        with translating_errors():
            self._unpacked.mkdir(mode=0o700, parents=True, exist_ok=True)
            return scratch_folder(self._unpacked, folder.name)

    def _take_away(self, folder: Path) -> None:
        """Move a damaged folder away in one step, so that nobody finds a part of it."""
        log.warning("the files of content %s are damaged; they are unpacked again", folder.name)
        # FileNotFoundError: another thread or process was quicker
        with self._scratch(folder) as scratch, translating_errors(), suppress(FileNotFoundError):
            folder.rename(scratch / folder.name)

    def forget(self, digest: str) -> None:
        """Delete the folders of a content."""
        for folder in self._unpacked.glob(f"{hex_of(digest)}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _graph_digest(content: Content) -> str:
    """Return the SHA-256 (hex) of the graph as it was pushed."""
    if content.form == "onnx":
        return hex_of(content.digest)
    return next((file.digest for file in content.files if file.path == content.graph), "")


def _name(content: Content, rewrite: Rewrite | None) -> str:
    """Return the name of a content's folder; a rewritten content has the beginning of the result's digest in it."""
    changed = "" if rewrite is None else f"-{hex_of(rewrite.digest)[:16]}"
    return hex_of(content.digest) + changed


def _is_intact(folder: Path, content: Content, rewrite: Rewrite | None) -> bool:
    """Return whether the files of a folder match their digests."""
    digests = {} if content.form == "onnx" else {file.path: PREFIX + file.digest for file in content.files}
    if rewrite is not None:
        digests[content.graph] = PREFIX + hex_of(rewrite.digest)
    try:
        return all(hash_file(folder / path) == digest for path, digest in digests.items())
    except DataLoss:  # a file is missing
        return False


def _unpack(source: Path, into: Path) -> None:
    try:
        unpack(source, into)
    except Refused:  # it was accepted once, so its bytes have changed since
        raise DataLoss(CHANGED) from None
