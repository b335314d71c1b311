"""Methods over raw message bytes: parse, answer, serialise, and make a status of every failure."""

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from penstock.api.grpc.errors import Context, refuse
from penstock.core.errors import Fault, Internal, InvalidInput

Request = TypeVar("Request", bound=Message)
RawMethod = Callable[[bytes, Context], Awaitable[bytes]]

log = logging.getLogger(__name__)


def parsed(kind: type[Request], raw: bytes) -> Request:
    """One message.

    Raises:
        InvalidInput: the bytes are something else.
    """
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise InvalidInput(f"the message is not a valid {kind.DESCRIPTOR.name}") from None


def unary(kind: type[Request], answer: Callable[[Request], Message | Awaitable[Message]]) -> RawMethod:
    """The method that answers requests of a kind; ``answer`` raises faults."""

    async def method(raw: bytes, context: Context) -> bytes:
        try:
            response = answer(parsed(kind, raw))
            if inspect.isawaitable(response):
                response = await response
            return response.SerializeToString()
        except Fault as fault:
            await refuse(context, fault)
        except Exception:
            log.exception("%s failed", kind.DESCRIPTOR.name)
            await refuse(context, Internal("the request failed"))

    return method
