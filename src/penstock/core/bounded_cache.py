"""A cache for keys that clients choose: limited in entries and bytes; the oldest entries are removed first."""

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Values by key. ``size`` is the sum of the sizes given to ``put``. Not for several threads."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.size = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: dict[Key, tuple[Value, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, None if it is not cached."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        """Cache a value of ``size`` bytes, including its key; a value larger than the cache is not cached."""
        self.drop(key)
        if size > self._max_bytes:
            return
        while len(self._entries) >= self._max_entries or self.size + size > self._max_bytes:
            self.drop(next(iter(self._entries)))
        self._entries[key] = value, size
        self.size += size

    def drop(self, key: Key) -> None:
        """Remove a key if it is cached."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry[1]
