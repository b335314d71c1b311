"""Where contents lie for serving: a bare graph is served from its blob, a tar's files from a folder made of it."""

import secrets
import shutil
from pathlib import Path

from penstock.core.errors import Damaged, Refused
from penstock.registry.archive import unpack
from penstock.registry.blobs import CHANGED, Blobs, hex_of, named_failures
from penstock.registry.files import beneath
from penstock.registry.records import Content


class Shelf:
    """Lays contents out below ``unpacked``; blocking, for any thread."""

    def __init__(self, blobs: Blobs, unpacked: Path) -> None:
        self._blobs = blobs
        self._unpacked = unpacked

    def place(self, content: Content) -> tuple[Path, Path]:
        """The folder a content lies in, and its graph; made if it is not there.

        Raises:
            Damaged: the content is gone, or is not what it was.
            NotReady: it cannot be reached, or there is no room.
        """
        if content.form == "onnx":
            graph = self._blobs.fetch(content.digest)
            return graph.parent, graph
        folder = self._unpacked / hex_of(content.digest)
        if not folder.is_dir():
            self._unpack(content, folder)
        return folder, beneath(folder, content.graph, "the graph")

    def _unpack(self, content: Content, folder: Path) -> None:
        source = self._blobs.fetch(content.digest)
        scratch = self._unpacked / f".{folder.name}.{secrets.token_hex(4)}"
        try:
            with named_failures():
                self._unpacked.mkdir(mode=0o700, parents=True, exist_ok=True)
            unpack(source, scratch)
            with named_failures():
                _move(scratch, folder)
        except Refused:  # it was taken in once, so the bytes have changed since
            raise Damaged(CHANGED) from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def forget(self, digest: str) -> None:
        """Take away what was laid out of a content."""
        shutil.rmtree(self._unpacked / hex_of(digest), ignore_errors=True)


def _move(scratch: Path, folder: Path) -> None:
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():  # else somebody was quicker, with the same files
            raise
