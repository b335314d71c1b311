"""What a request to the admin API brings: who asks and why, JSON bodies and streams, all of them bounded."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.requests import ClientDisconnect, Request

from penstock.core.errors import Cancelled, DeadlineExceeded, InvalidInput, TooLarge
from penstock.core.lineage import MOST_BYTES
from penstock.core.texts import is_readable
from penstock.registry.records import By

Document = dict[str, Any]

BODY_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20
SILENT_S = 30.0
"""A sender that is silent for that long is given up."""

SLOWEST_BYTES_S = 16 << 10
"""So is one that, after ``SILENT_S``, has sent less than this in a second; it would hold a place for ever."""

LONGEST_WORD = 200
LONGEST_ACTOR = 128
LONGEST_REASON = 2000
ANONYMOUS = "anonymous"

_REVISION = re.compile(r'(?:W/)?"([0-9]{1,18})"|([0-9]{1,18})')


def is_foreign(request: Request) -> bool:
    """Whether a browser sends this on behalf of a page of another origin, which nobody asked for."""
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")


def by(request: Request, body: Mapping[str, Any] | None = None) -> By:
    """Who asks (header ``penstock-actor``) and why (``reason`` of the body, or header ``penstock-reason``).

    Headers may be percent-encoded.

    Raises:
        InvalidInput: either is too long or not readable.
    """
    actor = unquote(request.headers.get("penstock-actor", ANONYMOUS))
    reason = (body or {}).get("reason") or unquote(request.headers.get("penstock-reason", ""))
    if not actor.isprintable() or not 0 < len(actor) <= LONGEST_ACTOR:
        raise InvalidInput(f"penstock-actor must be 1 to {LONGEST_ACTOR} readable characters")
    if not isinstance(reason, str) or len(reason) > LONGEST_REASON or not is_readable(reason):
        raise InvalidInput(f"the reason must be a text of at most {LONGEST_REASON} readable characters")
    return By(actor, reason)


async def document(request: Request, *known: str) -> Document:
    """The JSON object of a body, which may be missing; only the ``known`` keys are taken.

    Raises:
        InvalidInput: it is no JSON object, or has other keys.
        TooLarge: it is longer than a megabyte.
    """
    values = await anything(request)
    if unknown := sorted(values.keys() - set(known)):
        expected = f"; expected {', '.join(known)}" if known else ""
        raise InvalidInput(f"the body has the unknown key '{unknown[0][:100]}'{expected}")
    return values


async def anything(request: Request) -> Document:
    """The JSON object of a body, which may be missing, whatever its keys.

    Raises:
        InvalidInput: it is no JSON object.
        TooLarge: it is longer than a megabyte.
    """
    text = b"".join([chunk async for chunk in chunks(request, BODY_BYTES)])
    if not text:
        return {}
    try:
        values = _parsed(text)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is no JSON") from None
    if not isinstance(values, dict):
        raise InvalidInput("the body must be a JSON object")
    return values


def word(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A text of the body.

    Raises:
        InvalidInput: it is missing and has no default, or is no text.
    """
    value = body.get(name, default)
    if not isinstance(value, str) or len(value) > LONGEST_WORD:
        raise InvalidInput(f"'{name}' must be given as a text of at most {LONGEST_WORD} characters")
    return value


def header_json(request: Request, name: str) -> Document:
    """The JSON object in a header, empty if there is none.

    Raises:
        InvalidInput: it is too long, or no JSON object.
    """
    text = request.headers.get(name, "")
    if not text:
        return {}
    try:
        values = _parsed(text) if len(text) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InvalidInput(f"{name} must be a JSON object of at most {MOST_BYTES} bytes")
    return values


def _parsed(text: str | bytes) -> Any:
    """JSON as the standard has it: no NaN, and no key twice, where readers differ in which of them counts."""
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once_each)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _once_each(pairs: list[tuple[str, Any]]) -> Document:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise InvalidInput("a key stands twice in one JSON object")
    return values


def count(request: Request, name: str) -> int | None:
    """A whole number of the query, None where it is not given.

    Raises:
        InvalidInput: it is none.
    """
    text = request.query_params.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise InvalidInput(f"'{name}' must be a whole number")
    return int(text)


def if_revision(request: Request) -> int | None:
    """The revision that ``If-Match`` asks for, None for any.

    Raises:
        InvalidInput: it is no revision of ours.
    """
    stated = request.headers.get("if-match", "*").strip()
    if stated == "*":
        return None
    matched = _REVISION.fullmatch(stated)
    if matched is None:
        raise InvalidInput("If-Match must be the ETag of an earlier answer, or *")
    return int(matched[1] or matched[2])


async def chunks(request: Request, limit: int | None = None) -> AsyncIterator[bytes]:
    """The body in pieces of about a megabyte; ``limit`` bounds all of it.

    Raises:
        TooLarge: it is longer.
        DeadlineExceeded: the sender stopped sending, or sends too slowly.
        Cancelled: the sender is gone.
    """
    stream = request.stream().__aiter__()
    clock = asyncio.get_running_loop().time
    buffer, total, waited = bytearray(), 0, 0.0
    while True:
        began, patience = clock(), SILENT_S + total / SLOWEST_BYTES_S - waited
        try:
            async with asyncio.timeout(min(SILENT_S, patience)):
                piece = await anext(stream)
        except StopAsyncIteration:
            break
        except ClientDisconnect:
            raise Cancelled("the sender went away") from None
        except TimeoutError:
            raise DeadlineExceeded("the body stopped coming") from None
        waited += clock() - began
        total += len(piece)
        if limit is not None and total > limit:
            raise TooLarge(f"the body is longer than {limit} bytes")
        buffer += piece
        if len(buffer) >= CHUNK_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
