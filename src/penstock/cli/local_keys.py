"""API keys without a gateway: works on the registry's database in this process, as its owner."""

from penstock.app.repositories import identify_repositories, repositories_of
from penstock.cli.client import Document
from penstock.cli.failures import as_call_failed
from penstock.cli.registry_client import user_name
from penstock.config.settings import Settings
from penstock.registry.key_documents import key_document, parse_lifetime, parse_new_key, parse_overlap
from penstock.registry.location import location_of
from penstock.registry.records import Author
from penstock.registry.registry import open_store
from penstock.registry.stores.keys import KeyStore, StoredKey


class LocalKeys:
    """The keys of the registry, or of the model folders, in the settings; see ``KeyClient``."""

    def __init__(self, options: Settings) -> None:
        with as_call_failed():
            repositories = identify_repositories(repositories_of(options))
            location = location_of(options.registry, options.home, options.blobs, repositories)
            self._connections = open_store(location).connections
            self._store = KeyStore(self._connections)
            self._store.revision()
        self._accepted = options.auth is not None and options.auth.keys

    def list_keys(self) -> list[Document]:
        """See ``KeyClient``."""
        with as_call_failed():
            return [self._shown(key) for key in self._store.list_keys()]

    def create_key(self, wanted: Document) -> Document:
        """See ``KeyClient``."""
        with as_call_failed():
            key = parse_new_key(wanted, self._connections.clock.now())
            return self._shown_once(self._store.create(key, self._by(wanted)))

    def rotate_key(self, name: str, wanted: Document) -> Document:
        """See ``KeyClient``."""
        with as_call_failed():
            overlap_s, life_s = parse_overlap(wanted), parse_lifetime(wanted)
            return self._shown_once(self._store.rotate(name, overlap_s, life_s, self._by(wanted)))

    def revoke_key(self, name: str, reason: str) -> list[Document]:
        """See ``KeyClient``."""
        with as_call_failed():
            return [self._shown(key) for key in self._store.revoke(name, Author(user_name(), reason))]

    def _by(self, wanted: Document) -> Author:
        return Author(user_name(), str(wanted.get("reason", "")))

    def _shown(self, key: StoredKey) -> Document:
        return key_document(key, self._connections.clock.now())

    def _shown_once(self, made: tuple[str, StoredKey]) -> Document:
        return {**self._shown(made[1]), "key": made[0], "accepted": self._accepted}
