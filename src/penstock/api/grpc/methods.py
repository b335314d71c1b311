"""A method of a service: a coroutine over one call, which reads and writes messages as raw bytes."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from penstock.api.common.parts import Payload
from penstock.core.access.endpoints import ANY_CALLER, Requirement
from penstock.core.errors import Internal, InvalidInput
from penstock.serving.access.caller_access import CallerAccess

Request = TypeVar("Request", bound=Message)


class ServerCall(Protocol):
    """A call as its method sees it; a ``Fault`` that the method raises becomes the status of the call.

    ``fields`` is the metadata by lower-case name, of a name given twice the last value; ``deadline_ns``
    (``time.monotonic_ns``) is the caller's, None without one.
    """

    @property
    def fields(self) -> Mapping[bytes, bytes]:
        """Return the call's metadata."""

    @property
    def deadline_ns(self) -> int | None:
        """Return the deadline of the caller."""

    @property
    def access(self) -> CallerAccess:
        """Return what the credential of the call may do now; it may change while the call is open."""

    def info(self, name: str) -> object:
        """Return transport information by name, None if unknown."""

    async def read(self) -> bytes | None:
        """Return the next message, None after the last.

        Raises:
            Fault: what came is not a message, or too large a one.
        """

    async def write(self, message: bytes) -> None:
        """Send a message, and wait until it is written."""

    async def write_framed(self, messages: Payload) -> None:
        """Send framed messages, and wait until they are written."""


MAX_MESSAGE_BYTES: Final = 1 << 20
"""Maximum bytes of a message without tensors: it is parsed in one step on the event loop."""


@dataclass(frozen=True, slots=True)
class Method:
    """How one method is answered, and what it requires; ``streams_request`` allows a call without a time limit for its
    request, and each message may have ``max_message_bytes``.
    """

    handle: Callable[[ServerCall], Awaitable[None]]
    streams_request: bool = False
    max_message_bytes: int = MAX_MESSAGE_BYTES
    requirement: Requirement = ANY_CALLER


def parse_message(kind: type[Request], raw: bytes) -> Request:
    """Parse one message.

    Raises:
        InvalidInput: the bytes are something else.
    """
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise InvalidInput(f"the message is not a valid {kind.DESCRIPTOR.name}") from None


async def only_message(call: ServerCall) -> bytes:
    """Return the request of a call with one message; raises ``Fault``."""
    raw = await call.read()
    if raw is None:
        raise Internal("the call must have exactly one message")
    return raw


def make_unary(kind: type[Request], answer: Callable[[Request, ServerCall], Message | Awaitable[Message]]) -> Method:
    """Return the method that answers one request with one message; ``answer`` raises faults."""

    async def handle(call: ServerCall) -> None:
        response = answer(parse_message(kind, await only_message(call)), call)
        if inspect.isawaitable(response):
            response = await response
        await call.write(response.SerializeToString())

    return Method(handle)
