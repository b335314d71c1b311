"""ModelInfer and ModelStreamInfer: raw message bytes in, raw message bytes out."""

import asyncio
from asyncio import CancelledError, Queue, Semaphore
from typing import Final

from grpc import aio

from penstock.api.grpc.encode import stream_answers, stream_refusal
from penstock.api.grpc.errors import Context, refuse
from penstock.api.grpc.streamed_infer import StreamedInfer, stated
from penstock.core.errors import Fault, NotReady
from penstock.serving.data_plane import DataPlane

STATUS_WANTED: Final = "triton_grpc_error"
"""Call metadata that, when "true", asks a stream to end with a real status at its first error."""

Line = Queue[StreamedInfer | None]
"""Requests of a stream in their order; None says that no more will come."""


class Inference:
    """The two ways to ask for predictions; ``window`` bounds the requests one stream has under way."""

    def __init__(self, plane: DataPlane, window: int) -> None:
        self._plane = plane
        self._window = window
        self._readers: set[asyncio.Task[None]] = set()

    async def infer(self, raw: bytes, context: Context) -> bytes:
        """Answer one unary call."""
        attempt, outcome, told = StreamedInfer(self._plane), "internal", False
        attempt.submit(raw, context)
        try:
            if not attempt.refused:
                # A run that left the loop goes on while the caller is told who answers.
                await context.send_initial_metadata(attempt.facts())
                told = True
            answer = (await attempt.response()).SerializeToString()
            outcome = "ok"
            return answer
        except Fault as fault:
            outcome = fault.kind
            await refuse(context, fault, attempt.facts(), told=told)
        except CancelledError:
            outcome = attempt.broken_off()
            raise
        except aio.InternalError:  # the connection is gone
            outcome = "cancelled"
            raise CancelledError from None
        finally:
            attempt.close(outcome)

    async def stream(self, _: object, context: Context) -> None:
        """Answer the requests of one stream in their order; a failed one leaves the stream open."""
        line: Line = Queue()
        room = Semaphore(self._window)
        reader = asyncio.create_task(self._read(context, line, room))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        wants_status = stated(context).get(STATUS_WANTED) == "true"
        try:
            while (attempt := await line.get()) is not None:
                await _answer(attempt, context, wants_status)
                room.release()
            await asyncio.wait([reader])
            if reader.cancelled():
                raise NotReady("the server is stopping; open another stream")
        except Fault as fault:
            await refuse(context, fault)
        except aio.InternalError:  # the connection is gone
            raise CancelledError from None
        finally:
            reader.cancel()
            while not line.empty():
                left = line.get_nowait()
                if left is not None:
                    left.close(left.broken_off())

    def drain(self) -> None:
        """Read no more requests from any stream; each ends once its last request is answered."""
        for reader in self._readers:
            reader.cancel()

    async def _read(self, context: Context, line: Line, room: Semaphore) -> None:
        """Submit requests as they come, as long as there is room."""
        try:
            while True:
                await room.acquire()
                raw = await context.read()
                if raw is aio.EOF:
                    return
                attempt = StreamedInfer(self._plane)
                attempt.submit(raw, context)
                line.put_nowait(attempt)
        finally:
            line.put_nowait(None)


async def _answer(attempt: StreamedInfer, context: Context, wants_status: bool) -> None:
    """Wait for one request of a stream and write what it became.

    Raises:
        Fault: it failed, and the caller wants a status rather than a message.
    """
    outcome = "internal"
    try:
        response = await attempt.response()
        for answer in stream_answers(response, attempt.answered_by(), attempt.closing):
            await context.write(answer)
        outcome = "ok"
    except Fault as fault:
        outcome = fault.kind
        if wants_status:
            raise
        await context.write(stream_refusal(fault, attempt.id))
    except CancelledError:
        outcome = attempt.broken_off()
        raise
    except aio.InternalError:
        outcome = "cancelled"
        raise
    finally:
        attempt.close(outcome)
