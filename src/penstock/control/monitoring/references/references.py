"""The reference of each version, read from the database by digest."""

from collections.abc import Callable, Mapping

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.references.files import ReferenceFiles
from penstock.control.periodic import KeyedWork, PeriodicTask
from penstock.core.errors import NotReady
from penstock.core.versions import VersionKey
from penstock.monitor.reference import Reference, decode_reference, encode_reference
from penstock.registry.records import Author
from penstock.registry.stores.monitor import MonitorStore, ReferenceRecord


class References:
    """The references of all versions, on one event loop. ``task`` continues if one reference cannot be read;
    ``changed`` is called with each version whose reference has changed or is gone."""

    def __init__(
        self,
        store: MonitorStore,
        files: ReferenceFiles,
        pool: BlockingPool,
        task: PeriodicTask,
        changed: Callable[[VersionKey], None],
    ) -> None:
        self._store = store
        self._files = files
        self._pool = pool
        self._due: KeyedWork[VersionKey] = KeyedWork(task, "reference of", shared=(NotReady,))
        self._changed = changed
        self._references: dict[VersionKey, Reference] = {}
        self._digests: dict[VersionKey, str] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._references

    def __len__(self) -> int:
        return len(self._references)

    def get(self, key: VersionKey) -> Reference | None:
        """Return a version's reference, None for none."""
        return self._references.get(key)

    def digest(self, key: VersionKey) -> str | None:
        """Return the digest of a version's reference, as the database has it; None for none."""
        return self._digests.get(key)

    def problem(self, key: VersionKey) -> str:
        """Return why a version's reference cannot be read, "" for no problem."""
        return self._due.problem(key)

    async def take_over(self, digests: Mapping[VersionKey, str]) -> bool:
        """Use the references with these digests and no others, and return whether anything has changed.

        Raises:
            NotReady: a reference has no local copy, and the database is unreachable.
        """
        changed = False
        for key in self._due.due(digests):
            if self._digests.get(key) != digests[key]:
                with self._due.isolated(key):
                    await self._take(key, digests[key])
                    changed = True
        for key in self._digests.keys() - digests.keys():
            del self._references[key], self._digests[key]
            self._changed(key)
            changed = True
        return changed

    async def _take(self, key: VersionKey, digest: str) -> None:
        document = await self._pool.call(self._files.read, digest)
        if document is None:
            document = await self._pool.call(self._store.reference, *key)
            if document is None:
                return
            await self._pool.call(self._files.write, digest, document)
        self._references[key], self._digests[key] = decode_reference(document), digest
        self._changed(key)

    async def store(self, key: VersionKey, reference: Reference, by: Author, is_learned: bool = False) -> int:
        """Store a version's reference, which the next ``take_over`` reads, and return the model's revision.

        Only the leader may store one that ``is_learned`` (``NotLeading``).
        """
        record = ReferenceRecord(*key, reference.digest, reference.source)
        set_reference = self._store.set_learned if is_learned else self._store.set_reference
        revision = await self._pool.call(set_reference, record, encode_reference(reference), by)
        self._due.record_success(key)
        return revision
