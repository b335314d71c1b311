"""The transport of one connection: writes, flow control in both directions, and an orderly close."""

import asyncio
from typing import Final

from penstock.api.http1.exchange import Answer

LINGER_S: Final = 2.0
"""Seconds that a refused body may keep arriving before the connection closes, so that the client reads the answer."""


class ClientTransport:
    """Wraps the transport of ``connection_made``; without a transport, calls do nothing."""

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

    def attach(self, transport: asyncio.Transport) -> None:
        """Set the transport of a new connection, asyncio's or uvloop's."""
        self._transport = transport

    def detach(self) -> None:
        """Remove the transport of a lost connection."""
        self._transport = None
        self.resume_writing()

    def info(self, name: str) -> object:
        """Return transport information by name, None if unknown."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    # Writing.

    def send(self, answer: Answer, size: int) -> None:
        """Write an answer of ``size`` bytes."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._written += size
        if isinstance(answer, bytes):
            transport.write(answer)
        else:
            transport.writelines(answer)

    def pause_writing(self) -> None:
        """Note that the write buffer is full."""
        self.is_writing_paused = True

    def resume_writing(self) -> None:
        """Note that the client has read most of it."""
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
        """Return the bytes in the write buffer."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def is_stalled(self, now_ns: int, limit_ns: int) -> bool:
        """Whether the client has read nothing for longer than ``limit_ns`` while bytes wait; call regularly."""
        waiting = self.unsent_bytes()
        taken = self._written - waiting
        if not waiting or taken != self._taken:
            self._taken = taken
            self._progress_ns = now_ns
        return now_ns - self._progress_ns > limit_ns

    # Reading.

    def pause_reading(self) -> None:
        """Pause reading from the socket."""
        if not self.is_reading_paused and self._transport is not None:
            self.is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading from the socket."""
        if self.is_reading_paused and self._transport is not None:
            self.is_reading_paused = False
            self._transport.resume_reading()

    # The end.

    def end(self, *, lingers: bool) -> None:
        """Close after the last answer; if ``lingers``, close the sending side first, as the client may still send."""
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
        """Close after the write buffer is sent."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """Close immediately."""
        if self._transport is not None:
            self._transport.abort()
