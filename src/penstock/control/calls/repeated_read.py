"""A read of the database that a loop repeats: it is made only if the database has changed since the last one."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Mark = Callable[[], object]
"""Returns a mark that is another one after every change, None where the database cannot say whether it has changed."""

T = TypeVar("T")


def read_always() -> None:
    """Return the mark of a database that cannot say whether it has changed."""


class RepeatedRead(Generic[T]):
    """Keeps what ``read`` returned last, which nobody may change. Belongs to the event loop."""

    def __init__(self, read: Callable[[], Awaitable[T]], mark: Mark) -> None:
        self._read = read
        self._mark = mark
        self._last: tuple[object, T] | None = None

    async def value(self) -> T:
        """Return what the database has now; raises what ``read`` raises."""
        before = self._mark()  # before the read: what is committed meanwhile may not be in it
        if self._last is not None and self._last[0] == before:
            return self._last[1]
        self.forget()
        value = await self._read()
        self._last = None if before is None else (before, value)
        return value

    def is_current(self) -> bool:
        """Whether the database has not changed since the last read, as far as it can say."""
        return self._last is not None and self._last[0] == self._mark()

    def forget(self) -> None:
        """Read anew the next time: what was read also depends on the time."""
        self._last = None
