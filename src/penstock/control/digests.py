"""The digest of each served graph, taken on a thread beside everything else and remembered while it is desired."""

import asyncio
import hashlib
import logging
from pathlib import Path

from penstock.core.desired import Desired, VersionSpec

log = logging.getLogger("penstock.control")

Content = tuple[str, str]


class Digests:
    """``learn`` looks at a desired state, ``of`` tells what is known so far."""

    def __init__(self) -> None:
        self._known: dict[Content, str] = {}
        self._wanted: list[Content] = []
        self._task: asyncio.Task[None] | None = None

    def of(self, spec: VersionSpec) -> str | None:
        """The digest of a version's graph (``sha256:`` and hex), None while it is not known."""
        return self._known.get((spec.path, spec.tag))

    def learn(self, desired: Desired) -> None:
        """Take the digests that are missing, and forget those of contents that are no longer desired."""
        contents = [(spec.path, spec.tag) for model in desired.models for spec in model.versions]
        self._known = {content: self._known[content] for content in contents if content in self._known}
        self._wanted = [content for content in contents if content not in self._known]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop after the graph that is being read."""
        self._wanted = []
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        while self._wanted:
            content = self._wanted.pop(0)
            try:
                self._known[content] = await asyncio.to_thread(digest, Path(content[0]))
            except OSError as error:
                log.warning("a graph's digest cannot be taken: %s", error.strerror)


def digest(path: Path) -> str:
    """The digest of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
