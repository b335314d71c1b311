"""A watched folder of models as a source: what has come to rest there and was admitted is offered.

Nothing of the folder is copied. What was admitted is told by the digests of its files, which the workers check again
before they load; so a file that is changed in between is never run.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from penstock.control.desire import Found, Placed
from penstock.control.runtime import write_atomically
from penstock.core.errors import Fault
from penstock.core.versions import is_version
from penstock.registry.blobs import PREFIX, hash_file
from penstock.registry.folder import FolderSource, FoundModel
from penstock.registry.records import Examine, Report, Subject
from penstock.registry.row_proof import proof_in

log = logging.getLogger("penstock.control")

FILES = 10_000
"""Files of one version that are looked at to tell whether it changed."""

VERDICTS = 10_000
"""Verdicts that are kept from one run to the next."""

MOMENT_S = 0.05
ARRIVING = "its files may still be on their way in"
EXAMINED = "it is being examined"

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What admission found of a version's files: ``files`` are paths below the version's root, with SHA-256 (hex)."""

    report: Report
    files: tuple[tuple[str, str], ...]
    digest: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """A version as the last look found it: its tag, and since when (monotonic seconds) it has been that."""

    tag: str
    since: float


@dataclass(frozen=True, slots=True)
class _Version:
    """One version in the folder; ``root`` is the folder its files' paths are told below."""

    model: FoundModel
    version: str
    graph: Path
    root: Path
    tag: str

    @property
    def key(self) -> Key:
        """Model and version."""
        return self.model.name, self.version


@dataclass(slots=True)
class _Offer:
    """What is offered of a version, and why its newest content is not ("" = it is)."""

    placed: Placed | None = None
    problem: str = ""


@dataclass(slots=True)
class _Look:
    """One look at the folder."""

    models: list[FoundModel]
    versions: list[_Version] = field(default_factory=list)


class FolderContents:
    """Offers the models below ``root``; see ``desk.Source``.

    ``verdicts`` is a folder where admission's verdicts outlive this process; ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        root: Path,
        examine: Examine,
        verdicts: Path,
        settle_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = FolderSource(root)
        self._examine = examine
        self._verdicts = Verdicts(verdicts)
        self._settle_s = settle_s
        self._clock = clock
        self._seen: dict[Key, _Seen] = {}
        self._offers: dict[Key, _Offer] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    async def scan(self, settled_only: bool) -> Sequence[Found]:
        """Every model there is; ``settled_only`` takes new files once they have come to rest, else as they are.

        Raises:
            InvalidInput: the folder is not there, or holds nothing that looks like a model.
        """
        look = await asyncio.to_thread(self._look)
        now = self._clock()
        for version in look.versions:
            self._notice(version, now, settled_only)
        self._forget({version.key for version in look.versions})
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=MOMENT_S if settled_only else None)
        return [self._found(model) for model in look.models]

    def _look(self) -> _Look:
        look = _Look(self._source.scan())
        for model in look.models:
            flat = not model.folder.is_dir()
            for version, graph in model.versions.items():
                root = graph.parent if flat else model.folder
                look.versions.append(_Version(model, version, graph, root, _tag(model, version, graph)))
        return look

    def _notice(self, version: _Version, now: float, settled_only: bool) -> None:
        """Begin what a version needs, if it is time."""
        seen = self._seen.get(version.key)
        if seen is None or seen.tag != version.tag:
            seen = self._seen[version.key] = _Seen(version.tag, now)
        offer = self._offers.setdefault(version.key, _Offer(problem=ARRIVING))
        if (offer.placed is not None and offer.placed.tag == version.tag) or version.key in self._tasks:
            return
        if settled_only and now - seen.since < self._settle_s:
            return
        if (known := self._verdicts.of(version.tag)) is not None:
            self._judge(version, known)
            return
        offer.problem = EXAMINED
        task = self._tasks[version.key] = asyncio.create_task(self._examined(version))
        task.add_done_callback(lambda _: self._tasks.pop(version.key))

    def _forget(self, present: set[Key]) -> None:
        for key in [key for key in self._seen if key not in present]:
            del self._seen[key]
            self._offers.pop(key, None)

    async def _examined(self, version: _Version) -> None:
        try:
            files = await asyncio.to_thread(_digests, version)
            subject = Subject(version.graph, version.model.config, version.graph.parent, version.model.folder)
            report = await self._examine(subject)
            digest = await asyncio.to_thread(hash_file, version.graph)
            if await asyncio.to_thread(_tag, version.model, version.version, version.graph) != version.tag:
                return  # it changed meanwhile; the next look begins anew
        except Fault as fault:
            self._offers.setdefault(version.key, _Offer()).problem = str(fault)
            return
        except Exception:
            log.exception("model %s version %s cannot be examined", *version.key)
            self._offers.setdefault(version.key, _Offer()).problem = "it cannot be examined"
            return
        verdict = Verdict(report, files, digest)
        self._verdicts.keep(version.tag, verdict)
        self._judge(version, verdict)

    def _judge(self, version: _Version, verdict: Verdict) -> None:
        offer = self._offers.setdefault(version.key, _Offer())
        if verdict.report.admitted:
            offer.placed, offer.problem = _placed(version, verdict), ""
        elif offer.problem != verdict.report.reason:
            offer.problem = verdict.report.reason
            log.error("model %s version %s is not admitted: %s", *version.key, offer.problem)

    def _found(self, model: FoundModel) -> Found:
        offers = {version: self._offers[model.name, version] for version in model.versions}
        versions = {version: offer.placed for version, offer in offers.items() if offer.placed is not None}
        problems = {version: offer.problem for version, offer in offers.items() if offer.problem}
        broken = {version: why for version, why in problems.items() if version not in versions}
        refused = {version: why for version, why in problems.items() if version in versions and why not in _PASSING}
        return Found(model.name, versions, {**model.broken, **broken}, model.policy, model.problem, refused)


_PASSING = (ARRIVING, EXAMINED)


class Verdicts:
    """Admission's verdicts by the tag of the files they are about, kept in memory and in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Verdict] = {}

    def of(self, tag: str) -> Verdict | None:
        """What was found of the files with this tag, None if nothing was."""
        if tag not in self._known:
            with suppress(OSError, ValueError, KeyError, TypeError):
                self._known[tag] = _verdict_in(json.loads((self._folder / f"{tag}.json").read_text()))
        return self._known.get(tag)

    def keep(self, tag: str, verdict: Verdict) -> None:
        """Remember a verdict; where nothing can be written, for this process alone."""
        self._known[tag] = verdict
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for path in kept[: max(0, len(kept) - VERDICTS + 1)]:
                path.unlink()
            write_atomically(self._folder / f"{tag}.json", json.dumps(asdict(verdict)))


def _verdict_in(values: Mapping[str, Any]) -> Verdict:
    files = tuple((path, digest) for path, digest in values["files"])
    return Verdict(Report(**values["report"]), files, values["digest"])


def _placed(version: _Version, verdict: Verdict) -> Placed:
    facts = verdict.report.facts
    return Placed(
        path=str(version.graph),
        tag=version.tag,
        folder=str(version.model.folder),
        config=version.model.config,
        root=str(version.root),
        files=verdict.files,
        probes=json.dumps(facts["probes"]) if facts.get("probes") else "",
        rows=proof_in(facts),
        digest=verdict.digest,
        memory_bytes=int(facts.get("memory_bytes", 0)),
        report=verdict.report,
    )


def _digests(version: _Version) -> tuple[tuple[str, str], ...]:
    """What a worker has to check before it loads the version: its graph, and the weights that may lie beside it."""
    found = {version.graph, *islice(_own_files(version.model, version.version, version.graph), FILES)}
    told = []
    for path in sorted(found):
        name = path.relative_to(version.root) if path.is_relative_to(version.root) else path
        told.append((str(name), hash_file(path).removeprefix(PREFIX)))
    return tuple(told)


def _tag(model: FoundModel, version: str, graph: Path) -> str:
    """Changes when a file of the version does, or one of the model's own files, such as its labels."""
    digest = hashlib.sha256()
    files = [graph, *_own_files(model, version, graph), *_shared_files(model)]
    for path in islice(files, FILES):
        with suppress(OSError):  # gone since it was listed, which the next look tells
            facts = path.stat()
            text = f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ino}\0"
            digest.update(text.encode("utf-8", "replace"))
    return digest.hexdigest()[:32]


def _own_files(model: FoundModel, version: str, graph: Path) -> Iterator[Path]:
    """The files of one version, beside its graph."""
    if model.folder.is_dir():
        yield from (path for path in _files(model.folder / version) if path != graph)
    else:  # a flat file: its weights lie beside it under its own name
        beside = (path for path in graph.parent.iterdir() if path.name.startswith(graph.name) and path.is_file())
        yield from (path for path in sorted(beside) if path != graph)


def _shared_files(model: FoundModel) -> Iterator[Path]:
    """The model's files that belong to no version: its configuration, labels, warm-up data."""
    if model.folder.is_dir():
        for entry in sorted(model.folder.iterdir()):
            if entry.is_file():
                yield entry
            elif not is_version(entry.name):
                yield from _files(entry)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in islice(folder.rglob("*"), FILES) if path.is_file())
