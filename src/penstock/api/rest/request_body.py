"""Reads the body of a request without tensors: within a limit, inflated, and parsed as JSON."""

from functools import partial
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from penstock.api.common.compression import MAX_RATIO
from penstock.api.common.content_coding import BOM, inflate
from penstock.api.common.work import LargeWork
from penstock.core.errors import Cancelled, InvalidInput, OverBudget, TooLarge
from penstock.core.slices import Pacer
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.offload import OffloadPool

SMALL_BODY = 1 << 20
"""Maximum bytes of the body of a request without tensors, such as for the index or for a load."""

_Body = TypeVar("_Body", bound=msgspec.Struct)


class BodyReader:
    """Reads bodies; inflated bodies count against ``memory``, and ``offload`` inflates large ones."""

    def __init__(self, memory: MemoryBudget, offload: OffloadPool) -> None:
        self._memory = memory
        self._offload = offload

    async def read(self, request: Request, most: int = SMALL_BODY) -> bytes:
        """Return the plain body of a request, of at most ``most`` bytes.

        Raises:
            Cancelled: the client closed the connection.
            InvalidInput: its content coding is unknown or broken.
            OverBudget: there is no memory to inflate it.
            TooLarge: it is over ``most``.
        """
        parts, size = [], 0
        try:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise TooLarge(f"the body is over the limit of {most} bytes; send less at a time")
                parts.append(part)
        except ClientDisconnect:
            raise Cancelled("the client closed the connection") from None
        coding = request.headers.get("content-encoding", "")
        return await self._inflate(b"".join(parts), coding.encode("latin-1"), most)

    async def _inflate(self, body: bytes, coding: bytes, most: int) -> bytes:
        """Remove the content coding of a body; a large one on a thread."""
        try:
            return inflate(body, coding, most, None)
        except LargeWork:
            pass
        memory, size = self._memory, min(len(body) * MAX_RATIO, most)
        if not memory.take(size):
            raise OverBudget("the worker has no memory left to inflate the body; try again later")
        try:
            work = partial(inflate, body, coding, most, Pacer().pause)
            return await self._offload.run(work, len(body) + size)
        finally:
            memory.give_back(size)


def decode_body(body: bytes, kind: type[_Body]) -> _Body:
    """Parse a JSON body into the expected structure; an empty body is an empty object.

    Raises:
        InvalidInput: it is no such structure.
    """
    try:
        return msgspec.json.decode(body.removeprefix(BOM) or b"{}", type=kind)
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not valid: {error}") from None
