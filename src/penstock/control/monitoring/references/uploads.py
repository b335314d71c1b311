"""Builds references from uploaded training data."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.references.files import ReferenceFiles
from penstock.control.monitoring.references.profiling import profile_file
from penstock.engine.scratch import scratch_file
from penstock.registry.records import Document

PROFILES = 2
PROFILE_S = 600.0
"""The most concurrent profiles, and the deadline of each."""

UploadedGraph = tuple[Path, str, Path]
"""A version's graph, its configuration (protobuf JSON), and the folder of the files that this names."""


class ReferenceUploads:
    """Profiles uploads with bounded concurrency, in scratch files in the folder of ``files``; ``pool`` writes them."""

    def __init__(self, files: ReferenceFiles, pool: BlockingPool) -> None:
        self.pool = BlockingPool("profiles", PROFILES, "the profile of the data", PROFILE_S)
        self._files = files
        self._writing = pool

    async def profile(self, chunks: AsyncIterator[bytes], graph: UploadedGraph, features: Sequence[str]) -> Document:
        """Return the reference of a version's training data (CSV, Parquet or npz) as JSON values.

        Raises:
            InvalidInput: the data does not fit the model.
            DeadlineExceeded, NotReady: profiling took too long, or too many profiles are running.
        """
        await self._writing.call(self._files.make_folder)
        scratch = await self._writing.call(scratch_file, self._files.folder, "data")
        with scratch as path:
            async for chunk in chunks:
                await self._writing.call(scratch.write, chunk)
            return await self.pool.call(profile_file, path, *graph, features)
