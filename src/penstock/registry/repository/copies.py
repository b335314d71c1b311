"""Own copies of what is served out of repositories: what is examined is what workers load, whatever others change.

Below a folder of copies lie ``<repositories>/<content>/version`` (a graph and its weights) and ``.../model`` (labels
and warm-up data). The name of a content follows from its bytes. Whoever keeps the copies holds the lock of ``lock``.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from penstock.core.errors import Fault, InvalidInput, NotReady
from penstock.engine.durable_files import sync, sync_tree
from penstock.engine.scratch import Scratch, is_scratch, scratch_folder
from penstock.registry.blobs.folder import PREFIX, hash_file, named_failures
from penstock.registry.files import check_relative
from penstock.registry.graphs.rewrite import write_edited
from penstock.registry.records import Plan, Subject
from penstock.registry.repository.layout import FoundModel
from penstock.registry.repository.local import LocalTree
from penstock.registry.repository.tree import Tree, below, find

VERSION, MODEL = "version", "model"
KEPT_S = 3600.0
"""A copy that nobody offers any more is kept that long: a worker of before may still be loading it."""

FORGOTTEN_S = 7 * 86_400.0
"""Copies of repositories that nobody serves any more are kept that long."""

MOST_WEIGHTS = 10_000

Files = tuple[tuple[str, str], ...]
"""Paths below a root, and SHA-256 (hex)."""


@dataclass(frozen=True, slots=True)
class Source:
    """One version in a repository: its tree, its model, and the path of its graph."""

    tree: Tree
    model: FoundModel
    graph: str

    @property
    def folder(self) -> str:
        """Where its weights lie."""
        return self.graph.rpartition("/")[0]

    def weights(self, plan: Plan) -> list[str]:
        """The paths of the files of weights that are there; admission tells of the others.

        Raises:
            InvalidInput: one may not be used.
        """
        return [path for name in plan.weights[:MOST_WEIGHTS] if (path := self._usable(self.folder, name))]

    def named(self) -> list[str]:
        """The names below the model's folder of the files that its configuration names, as far as they are there.

        Raises:
            InvalidInput: one may not be used.
        """
        return [name for name in self.model.files if self._usable(self.model.folder, name)]

    def _usable(self, folder: str, name: str) -> str:
        try:
            check_relative(name, "a file")
        except InvalidInput:
            return ""
        path = below(folder, name)
        entry = find(self.tree, path)
        if entry is not None and entry.problem is not None:
            raise InvalidInput(f"one of its files cannot be used: {entry.problem.text}", entry.problem.detail)
        return "" if entry is None or entry.is_folder else path


@dataclass(frozen=True, slots=True)
class Piece:
    """A version's files on this machine: ``graph`` and ``model``, the folder of labels and warm-up data, are below
    ``root``; ``digest`` is that of the graph as it was brought.

    ``content`` names what was copied ("" where the repository's own files are used).
    """

    root: Path
    graph: str
    model: str
    files: Files
    digest: str
    content: str = ""


class Work(Protocol):
    """A version on its way from a repository to admission; blocking."""

    def take_graph(self) -> Subject:
        """Have the graph where it can be looked at.

        Raises:
            InvalidInput, TooLarge, NotReady: it cannot be.
        """

    def take_rest(self, plan: Plan) -> Subject:
        """Have the other files beside it, and the graph as it is to be served; raises as ``take_graph``."""

    def done(self) -> Piece:
        """What was made of it; raises ``NotReady``."""

    def keep(self, piece: Piece) -> Piece:
        """Where it lies from now on; raises ``NotReady``."""

    def close(self) -> None:
        """Delete what is not kept."""


class Copies:
    """Keeps the copies of one gateway's repositories; for any thread.

    ``limit`` bounds the bytes of one version; ``clock`` gives seconds since the epoch.
    """

    def __init__(self, folder: Path, repositories: str, limit: int, clock: Callable[[], float] = time.time) -> None:
        self._all = folder
        self._folder = folder / hashlib.sha256(os.fsencode(repositories)).hexdigest()[:16]
        self._limit = limit
        self._clock = clock
        self._lock: int | None = None
        self._keeping = threading.Lock()

    def begin(self, source: Source) -> Work:
        """Begin with a version; raises ``NotReady`` where nothing can be written."""
        with named_failures():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock is None:  # another process that serves them may have it, and is about to end
                self._lock = _locked(self._folder)
                if self._lock is not None:
                    self._forget_others()
            scratch = scratch_folder(self._folder, "copy")
        return _Copying(source, scratch, self._limit, self._keeping)

    def find(self, content: str) -> Path | None:
        """Where a content lies; it is kept for a while then."""
        place = self._folder / content
        try:
            os.utime(place)
        except OSError:
            return None
        return place

    def sweep(self, offered: Collection[str]) -> None:
        """Delete copies that are not offered and have not been for a while."""
        with suppress(OSError):
            for place in self._folder.iterdir():
                if self._is_over(place, offered):
                    shutil.rmtree(place, ignore_errors=True)

    def _is_over(self, place: Path, offered: Collection[str]) -> bool:
        kept = place.name in offered or is_scratch(place.name) or not place.is_dir()
        return not kept and self._age(place) > KEPT_S

    def _forget_others(self) -> None:
        """Delete the copies of repositories that nobody serves any more."""
        for place in self._all.iterdir():
            if place != self._folder and self._age(place) > FORGOTTEN_S and (handle := _locked(place)) is not None:
                shutil.rmtree(place, ignore_errors=True)
                os.close(handle)

    def _age(self, place: Path) -> float:
        return self._clock() - place.stat().st_mtime


def _locked(folder: Path) -> int | None:
    """A descriptor that holds a folder's lock, None if another process does."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


class _Copying:
    """See ``Work``: everything is copied first, so that nobody can change what is examined."""

    def __init__(self, source: Source, scratch: Scratch, limit: int, keeping: threading.Lock) -> None:
        self._source = source
        self._made = scratch
        self._scratch = scratch.path
        self._keeping = keeping
        self._left = limit
        self._graph = scratch.path / VERSION / source.graph.rpartition("/")[2]
        self._digest = ""

    def take_graph(self) -> Subject:
        """See ``Work``."""
        self._copy(self._source.graph, self._graph)
        self._digest = hash_file(self._graph)
        return Subject(self._graph)

    def take_rest(self, plan: Plan) -> Subject:
        """See ``Work``."""
        folder = self._source.folder
        for path in self._source.weights(plan):
            name = path[len(folder) :].lstrip("/")
            self._copy(path, self._graph.parent / name)
        model = self._scratch / MODEL
        for name in self._source.named():
            self._copy(below(self._source.model.folder, name), model / name)
        if plan.rewrite is not None:
            write_edited(self._graph, plan.rewrite, self._graph)
        return Subject(self._graph, self._source.model.config, self._graph.parent, model)

    def done(self) -> Piece:
        """See ``Work``."""
        with named_failures():
            found = sorted(path for path in self._scratch.rglob("*") if path.is_file())
        files = tuple((str(path.relative_to(self._scratch)), _hex(path)) for path in found)
        content = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:32]
        graph = str(self._graph.relative_to(self._scratch))
        return Piece(self._scratch, graph, MODEL, files, self._digest, content)

    def keep(self, piece: Piece) -> Piece:
        """See ``Work``."""
        place = self._scratch.with_name(piece.content)
        kept = replace(piece, root=place)
        with named_failures(), self._keeping:
            if not _moved(self._scratch, place):  # the same bytes are there, of an earlier look or of another version
                if intact(kept):
                    os.utime(place)
                    return kept
                shutil.rmtree(place)
                self._scratch.rename(place)
        return kept

    def close(self) -> None:
        """See ``Work``."""
        self._made.discard()

    def _copy(self, path: str, target: Path) -> None:
        with named_failures():
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._source.tree.copy(path, target, self._left)
        self._left -= target.stat().st_size


class InPlace:
    """See ``Work``: for a machine on which nothing can be copied, the repository's own files."""

    def __init__(self, source: Source, tree: LocalTree) -> None:
        self._source = source
        self._tree = tree
        self._paths = [source.graph]

    def take_graph(self) -> Subject:
        """See ``Work``."""
        return Subject(self._tree.locate(self._source.graph))

    def take_rest(self, plan: Plan) -> Subject:
        """See ``Work``."""
        if plan.rewrite is not None:
            raise NotReady("its ZipMap cannot be cut, as the gateway's home cannot be written")
        self._paths += self._source.weights(plan)
        self._paths += [below(self._source.model.folder, name) for name in self._source.named()]
        graph = self._tree.locate(self._source.graph)
        return Subject(graph, self._source.model.config, graph.parent, self._tree.root / self._source.model.folder)

    def done(self) -> Piece:
        """See ``Work``."""
        files = tuple((path, _hex(self._tree.locate(path))) for path in sorted(set(self._paths)))
        graph, model = self._source.graph, self._source.model.folder
        return Piece(self._tree.root, graph, model, files, PREFIX + dict(files)[graph])

    def keep(self, piece: Piece) -> Piece:
        """See ``Work``."""
        return piece

    def close(self) -> None:
        """See ``Work``."""


def _moved(scratch: Path, place: Path) -> bool:
    """Move a folder to where nothing is yet; False where something is."""
    sync_tree(scratch)
    try:
        scratch.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    sync(place.parent)
    return True


def intact(piece: Piece) -> bool:
    """Whether a piece's files are still what they were."""
    try:
        return all(_hex(piece.root / path) == digest for path, digest in piece.files)
    except Fault:
        return False


def _hex(path: Path) -> str:
    return hash_file(path).removeprefix(PREFIX)
