"""A cache whose keys clients choose: bounded in entries and bytes, the oldest go first."""

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Values by key; what is remembered may only be what a typed description of a request says may be remembered.

    ``size`` is the sum of the entries' sizes as ``put`` was told them.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.size = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: dict[Key, tuple[Value, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        """The value of a key, None for one that is not remembered."""
        found = self._entries.get(key)
        return None if found is None else found[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        """Remember a value of ``size`` bytes, its key included; one that is larger than the cache is not."""
        self.drop(key)
        if size > self._max_bytes:
            return
        while len(self._entries) >= self._max_entries or self.size + size > self._max_bytes:
            self.drop(next(iter(self._entries)))
        self._entries[key] = value, size
        self.size += size

    def drop(self, key: Key) -> None:
        """Forget a key; it is no error if it is not remembered."""
        found = self._entries.pop(key, None)
        if found is not None:
            self.size -= found[1]
