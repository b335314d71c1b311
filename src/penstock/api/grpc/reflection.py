"""Server reflection, v1alpha and v1, for tools such as grpcurl; what answers it is loaded when a client asks."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from penstock.api.grpc.methods import Method, ServerCall

REFLECTION_SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The two differ only in their names, so one implementation serves both."""

METHOD: Final = "ServerReflectionInfo"


def reflection_method(describes_tensorflow: bool = False) -> Method:
    """Return the method of either service; ``describes_tensorflow``: also TensorFlow Serving's services are offered."""
    return Method(partial(_answer, describes_tensorflow), streams_request=True)


async def _answer(describes_tensorflow: bool, call: ServerCall) -> None:
    answer = await asyncio.to_thread(_load_answer)
    await answer(REFLECTION_SERVICES, describes_tensorflow, call)


def _load_answer() -> Callable[[tuple[str, ...], bool, ServerCall], Awaitable[None]]:
    from penstock.api.grpc.reflection_answers import answer  # noqa: PLC0415 - takes memory that few workers need

    return answer
