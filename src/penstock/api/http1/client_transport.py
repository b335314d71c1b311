"""The transport of one connection: what was written and taken, flow control both ways, and an orderly end."""

import asyncio
from typing import Final

from penstock.api.http1.exchange import Answer

LINGER_S: Final = 2.0
"""How long a refused body may still arrive before the connection is closed, so that the answer can be read."""


class ClientTransport:
    """Wraps what ``connection_made`` brings; nothing here does anything before it, or once the connection is lost."""

    __slots__ = (
        "_progress_ns",
        "_taken",
        "_transport",
        "_writable",
        "_written",
        "is_reading_paused",
        "is_writing_paused",
    )

    def __init__(self) -> None:
        self.is_writing_paused = False
        self.is_reading_paused = False
        self._transport: asyncio.Transport | None = None
        self._writable: asyncio.Event | None = None
        self._written = 0
        self._taken = -1
        self._progress_ns = 0

    def attach(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is one in all but name

    def detach(self) -> None:
        """It is gone."""
        self._transport = None
        self.resume_writing()

    def info(self, name: str) -> object:
        """What is known of the connection, None where it is not."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    # Writing.

    def send(self, answer: Answer, size: int) -> None:
        """Write a whole answer of ``size`` bytes."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._written += size
        if isinstance(answer, bytes):
            transport.write(answer)
        else:
            transport.writelines(answer)

    def pause_writing(self) -> None:
        """More is written than the client takes."""
        self.is_writing_paused = True

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        self.is_writing_paused = False
        if self._writable is not None:
            self._writable.set()

    async def writable(self) -> None:
        """Wait while writing is paused."""
        while self.is_writing_paused:
            if self._writable is None:
                self._writable = asyncio.Event()
            self._writable.clear()
            await self._writable.wait()

    def unsent_bytes(self) -> int:
        """Bytes that were written and have not left."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def is_stalled(self, now_ns: int, limit_ns: int) -> bool:
        """Whether bytes have waited for longer than ``limit_ns`` while the client took none; asked now and then."""
        waiting = self.unsent_bytes()
        taken = self._written - waiting
        if not waiting or taken != self._taken:
            self._taken = taken
            self._progress_ns = now_ns
        return now_ns - self._progress_ns > limit_ns

    # Reading.

    def pause_reading(self) -> None:
        """Have nothing more come."""
        if not self.is_reading_paused and self._transport is not None:
            self.is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on."""
        if self.is_reading_paused and self._transport is not None:
            self.is_reading_paused = False
            self._transport.resume_reading()

    # The end.

    def end(self, *, lingers: bool) -> None:
        """The last answer is written: close, or, where the client may still send, end our side first."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if lingers and transport.can_write_eof():
            transport.write_eof()
            self.resume_reading()
            asyncio.get_running_loop().call_later(LINGER_S, self.close)
        else:
            transport.close()

    def close(self) -> None:
        """End once what is written has left."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()
