"""Copies of versions from repositories, so that workers load what admission examined, whatever others change.

A folder of copies has ``<repositories>/<content>/version`` (a graph and its weights) and ``.../model`` (labels and
warm-up data). The name of a content is a hash of its bytes. The gateway that owns the copies holds the file lock
``lock``.
"""

import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from penstock.core.errors import Fault, InvalidInput
from penstock.core.model_signing import CONFIG_FILE, COPIED_BUNDLES, MOST_BUNDLES
from penstock.engine.durable_files import move_folder
from penstock.engine.scratch import Scratch, is_scratch, scratch_folder
from penstock.registry.blobs.folder import PREFIX, hash_file, hex_of, translating_errors
from penstock.registry.files import check_relative
from penstock.registry.graphs.rewrite import write_edited
from penstock.registry.records import ExaminedContent, PreparationPlan
from penstock.registry.repository.layout import FoundModel
from penstock.registry.repository.tree import FileTree, find, join_path

VERSION, MODEL = "version", "model"
KEPT_S = 3600.0
"""How long a copy is kept that is no longer offered: a worker may still be loading it."""

FORGOTTEN_S = 7 * 86_400.0
"""How long copies of repositories are kept that are no longer served."""

MOST_WEIGHTS = 10_000

Files = tuple[tuple[str, str], ...]
"""Paths below a root, each with a SHA-256 (hex)."""


@dataclass(frozen=True, slots=True)
class RepositoryVersion:
    """One version in a repository: its tree, its model, and the path of its graph."""

    tree: FileTree
    model: FoundModel
    graph: str

    @property
    def folder(self) -> str:
        """The folder of its weights."""
        return self.graph.rpartition("/")[0]

    def weights(self, plan: PreparationPlan) -> list[str]:
        """Return the paths of the existing files of weights; admission reports the missing ones.

        Raises:
            InvalidInput: one may not be used.
        """
        return [path for name in plan.weights[:MOST_WEIGHTS] if (path := self._usable(self.folder, name))]

    def bundles(self) -> tuple[list[str], str]:
        """Return the paths of the version's bundles, and the folder that they are about: those beside its graph, or
        else those in the model's folder. Beside a graph without a folder of its own, they begin with its name."""
        name = self.graph.rpartition("/")[2] if self.model.is_file else ""
        for folder in dict.fromkeys((self.folder, self.model.folder)):
            names = [entry.name for entry in self.tree.entries(folder) if not entry.is_folder]
            if found := [join_path(folder, item) for item in names if item.endswith(".sig") and item.startswith(name)]:
                return found[:MOST_BUNDLES], folder
        return [], self.model.folder

    def referenced(self) -> list[str]:
        """Return the names, below the model's folder, of the existing files that its configuration references.

        Raises:
            InvalidInput: one may not be used.
        """
        return [name for name in self.model.files if self._usable(self.model.folder, name)]

    def _usable(self, folder: str, name: str) -> str:
        try:
            check_relative(name, "a file")
        except InvalidInput:
            return ""
        path = join_path(folder, name)
        entry = find(self.tree, path)
        if entry is not None and entry.problem is not None:
            raise InvalidInput(f"one of its files cannot be used: {entry.problem.text}", entry.problem.detail)
        return "" if entry is None or entry.is_folder else path


@dataclass(frozen=True, slots=True)
class PreparedVersion:
    """The files of a version on this machine: ``graph`` and ``model``, the folder of labels and warm-up data, are below
    ``root``; ``digest`` is that of the graph in the repository, or of the graph and its files of weights.

    ``content`` is the name of the copy ("" for a version that was refused before it was copied). ``pushed`` is the
    SHA-256 (hex) of the graph in the repository, and ``signed`` the folder of it that the version's bundles are about.
    """

    root: Path
    graph: str
    model: str
    files: Files
    digest: str
    content: str = ""
    pushed: str = ""
    signed: str = ""


class VersionPreparer(Protocol):
    """Prepares a version of a repository for admission and serving. Calls block."""

    def take_graph(self) -> ExaminedContent:
        """Copy the graph, and return it for inspection.

        Raises:
            InvalidInput, TooLarge, NotReady: it cannot be copied.
        """

    def take_rest(self, plan: PreparationPlan) -> ExaminedContent:
        """Copy the other files, rewrite the graph, and return all for examination; raises as ``take_graph``."""

    def finish(self) -> PreparedVersion:
        """Return the files of the version; raises ``NotReady``."""

    def keep(self, piece: PreparedVersion) -> PreparedVersion:
        """Move the files to their final folder, and return them there; raises ``NotReady``."""

    def close(self) -> None:
        """Delete files that were not kept."""


class RepositoryCopies:
    """The copies of one gateway's repositories; any thread may use them.

    ``limit`` is the greatest number of bytes of one version; ``clock`` gives seconds since the epoch.
    """

    def __init__(self, folder: Path, repositories: str, limit: int, clock: Callable[[], float] = time.time) -> None:
        self._all = folder
        self._folder = folder / hashlib.sha256(os.fsencode(repositories)).hexdigest()[:16]
        self._limit = limit
        self._clock = clock
        self._lock: int | None = None
        self._keeping = threading.Lock()

    def begin(self, source: RepositoryVersion) -> VersionPreparer:
        """Begin to copy a version; raises ``NotReady`` if nothing can be written."""
        with translating_errors():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock is None:  # an earlier process that serves the same repositories may still hold it
                self._lock = _lock_folder(self._folder)
                if self._lock is not None:
                    self._forget_others()
            scratch = scratch_folder(self._folder, "copy")
        return _CopyingPreparer(source, scratch, self._limit, self._keeping)

    def find(self, content: str) -> Path | None:
        """Return the folder of a content and renew its time to live, None if there is none."""
        path = self._folder / content
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def sweep(self, offered: Collection[str]) -> None:
        """Delete copies that have not been offered for ``KEPT_S``."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                if self._is_over(path, offered):
                    shutil.rmtree(path, ignore_errors=True)

    def _is_over(self, path: Path, offered: Collection[str]) -> bool:
        is_needed = path.name in offered or is_scratch(path.name) or not path.is_dir()
        return not is_needed and self._age(path) > KEPT_S

    def _forget_others(self) -> None:
        """Delete the copies of repositories that are no longer served."""
        for path in self._all.iterdir():
            if path != self._folder and self._age(path) > FORGOTTEN_S and (handle := _lock_folder(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(handle)

    def _age(self, path: Path) -> float:
        return self._clock() - path.stat().st_mtime


def _lock_folder(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of a folder, None if another process holds it."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


class _CopyingPreparer:
    """See ``VersionPreparer``: copies all files first, so that nobody can change them after the examination."""

    def __init__(self, source: RepositoryVersion, scratch: Scratch, limit: int, keeping: threading.Lock) -> None:
        self._source = source
        self._made = scratch
        self._scratch = scratch.path
        self._keeping = keeping
        self._left = limit
        self._graph = scratch.path / VERSION / source.graph.rpartition("/")[2]
        self._digest = ""
        self._signed = ""

    def take_graph(self) -> ExaminedContent:
        """See ``VersionPreparer``."""
        self._copy(self._source.graph, self._graph)
        self._digest = hash_file(self._graph)
        return ExaminedContent(self._graph)

    def take_rest(self, plan: PreparationPlan) -> ExaminedContent:
        """See ``VersionPreparer``."""
        folder = self._source.folder
        for path in self._source.weights(plan):
            name = path[len(folder) :].lstrip("/")
            self._copy(path, self._graph.parent / name)
        model = self._scratch / MODEL
        for name in self._source.referenced():
            self._copy(join_path(self._source.model.folder, name), model / name)
        self._copy_bundles(model)
        if plan.rewrite is not None:
            write_edited(self._graph, plan.rewrite, self._graph)
        return ExaminedContent(self._graph, self._source.model.config, self._graph.parent, model)

    def _copy_bundles(self, model: Path) -> None:
        """Copy the bundles, and the configuration that they must cover."""
        bundles, self._signed = self._source.bundles()
        for number, path in enumerate(bundles):
            self._copy(path, self._scratch / COPIED_BUNDLES / f"{number}.sig")
        if bundles and self._source.model.config:
            self._copy(join_path(self._source.model.folder, CONFIG_FILE), model / CONFIG_FILE)

    def finish(self) -> PreparedVersion:
        """See ``VersionPreparer``."""
        with translating_errors():
            paths = sorted(path for path in self._scratch.rglob("*") if path.is_file())
        files = tuple((str(path.relative_to(self._scratch)), _hash_path(path)) for path in paths)
        content = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:32]
        graph = str(self._graph.relative_to(self._scratch))
        weights = [item for item in files if item[0] != graph and item[0].startswith(f"{VERSION}/")]
        digest, pushed = _digest_of(self._digest, weights), hex_of(self._digest)
        return PreparedVersion(self._scratch, graph, MODEL, files, digest, content, pushed, self._signed)

    def keep(self, piece: PreparedVersion) -> PreparedVersion:
        """See ``VersionPreparer``."""
        path = self._scratch.with_name(piece.content)
        copied = replace(piece, root=path)
        with translating_errors(), self._keeping:
            if not move_folder(self._scratch, path):  # there is a copy with the same bytes, perhaps of another version
                if is_intact(copied):
                    os.utime(path)
                    return copied
                shutil.rmtree(path)
                move_folder(self._scratch, path)
        return copied

    def close(self) -> None:
        """See ``VersionPreparer``."""
        self._made.discard()

    def _copy(self, path: str, target: Path) -> None:
        with translating_errors():
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._source.tree.copy(path, target, self._left)
        self._left -= target.stat().st_size


def _digest_of(graph: str, weights: Sequence[tuple[str, str]]) -> str:
    """Return the digest of a graph with its files of weights: that of the graph itself if it has none."""
    return PREFIX + hashlib.sha256(json.dumps([graph, weights]).encode()).hexdigest() if weights else graph


def is_intact(piece: PreparedVersion) -> bool:
    """Return whether the files still match their digests."""
    try:
        return all(_hash_path(piece.root / path) == digest for path, digest in piece.files)
    except Fault:
        return False


def _hash_path(path: Path) -> str:
    return hash_file(path).removeprefix(PREFIX)
