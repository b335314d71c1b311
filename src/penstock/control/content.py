"""The model folder as the desk sees it: what the registry finds there, with a tag for each version's content."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from penstock.control.desire import Found, Placed
from penstock.core.versions import is_version
from penstock.registry.folder import FolderSource, FoundModel

FILES = 10_000
"""Files of one version that are looked at to tell whether it changed."""


class FolderContents:
    """Finds models below a folder; see ``desk.Source``."""

    def __init__(self, root: Path) -> None:
        self._source = FolderSource(root)

    async def scan(self, settled_only: bool) -> list[Found]:
        """Every model there is.

        Raises:
            InvalidInput: the folder is not there, or holds nothing that looks like a model.
        """
        return [_found(model) for model in await asyncio.to_thread(self._source.scan)]


def _found(model: FoundModel) -> Found:
    versions = {
        version: Placed(str(path), _tag(model.folder, version, path), str(model.folder), model.config)
        for version, path in model.versions.items()
    }
    return Found(model.name, versions, model.broken, model.policy, model.problem)


def _tag(folder: Path, version: str, graph: Path) -> str:
    """Changes when a file of the version does, or one of the model's own files, such as its labels."""
    digest = hashlib.sha256()
    for path in islice(_files(folder, version, graph), FILES):
        with suppress(OSError):  # gone since it was listed, which the next scan tells
            facts = path.stat()
            text = f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ino}\0"
            digest.update(text.encode("utf-8", "replace"))
    return digest.hexdigest()[:16]


def _files(folder: Path, version: str, graph: Path) -> Iterator[Path]:
    yield graph
    if not folder.is_dir():  # a flat file: its external data lies beside it under its own name
        yield from sorted(path for path in graph.parent.iterdir() if path.name.startswith(graph.name))
        return
    for path in sorted(folder.rglob("*")):
        top = path.relative_to(folder).parts[0]
        if path.is_file() and (top == version or not is_version(top)):
            yield path
