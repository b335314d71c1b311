"""Reads requests to the admin API: actor and reason, JSON bodies and streams, all with limits."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request

from penstock.api.admin.caller_check import caller_of
from penstock.core.access.callers import Caller
from penstock.core.errors import Cancelled, DeadlineExceeded, InvalidInput, TooLarge
from penstock.core.lineage import MOST_BYTES
from penstock.core.texts import is_readable
from penstock.registry.records import Author

Document = dict[str, Any]

BODY_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20
SILENT_S = 30.0
"""Seconds without a byte after which a request fails."""

SLOWEST_BYTES_S = 16 << 10
"""Lowest rate of a body after ``SILENT_S``; a slower sender would hold a connection without end."""

LONGEST_TEXT = 200
LONGEST_ACTOR = 128
LONGEST_REASON = 2000
ANONYMOUS = "anonymous"

_REVISION = re.compile(r'(?:W/)?"([0-9]{1,18})"|([0-9]{1,18})')


def read_author(request: Request, body: Mapping[str, Any] | None = None) -> Author:
    """Return who makes a change, and the reason (``reason`` of the body, or header ``penstock-reason``).

    The actor is the caller; of an anonymous caller it is the name in the header ``penstock-actor``, which nobody
    checks. Of any other caller that header names on whose behalf it acts. Headers may be percent-encoded.

    Raises:
        InvalidInput: one is too long or has unprintable characters.
    """
    caller, stated = caller_of(request), unquote(request.headers.get("penstock-actor", ANONYMOUS))
    reason = (body or {}).get("reason") or unquote(request.headers.get("penstock-reason", ""))
    if not stated.isprintable() or not 0 < len(stated) <= LONGEST_ACTOR:
        raise InvalidInput(f"penstock-actor must be 1 to {LONGEST_ACTOR} readable characters")
    if not isinstance(reason, str) or len(reason) > LONGEST_REASON or not is_readable(reason):
        raise InvalidInput(f"the reason must be a text of at most {LONGEST_REASON} readable characters")
    return _read_author(request, caller, stated, reason)


def _read_author(request: Request, caller: Caller, stated: str, reason: str) -> Author:
    return Author(
        actor=caller.name if caller.is_proven else stated,
        reason=reason,
        method=caller.kind.value,
        key_id=caller.key_id,
        address=client_address(request),
        request_id=_request_id(request),
        on_behalf_of=stated if caller.is_proven and "penstock-actor" in request.headers else "",
    )


def client_address(request: Request) -> str:
    """Return the address of the client, "" on a unix socket."""
    return "" if request.client is None else f"{request.client.host}:{request.client.port}"


def _request_id(request: Request) -> str:
    """Return the id that the client gave the request; "" for none, or one that does not fit into the audit."""
    given = request.headers.get("x-request-id", "")
    return given if given.isprintable() and len(given) <= LONGEST_ACTOR else ""


async def read_document(request: Request, *known: str) -> Document:
    """Return the JSON object of a body, {} without a body; only ``known`` keys are allowed.

    Raises:
        InvalidInput: it is not a JSON object, or has other keys.
        TooLarge: it is longer than a megabyte.
    """
    values = await read_object(request)
    if unknown := sorted(values.keys() - set(known)):
        expected = f"; expected {', '.join(known)}" if known else ""
        raise InvalidInput(f"the body has the unknown key '{unknown[0][:100]}'{expected}")
    return values


async def read_object(request: Request) -> Document:
    """Return the JSON object of a body with any keys, {} without a body.

    Raises:
        InvalidInput: it is not a JSON object.
        TooLarge: it is longer than a megabyte.
    """
    text = b"".join([chunk async for chunk in read_chunks(request, BODY_BYTES)])
    if not text:
        return {}
    try:
        values = _parse_strict(text)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is not valid JSON") from None
    if not isinstance(values, dict):
        raise InvalidInput("the body must be a JSON object")
    return values


def text_field(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return a text field of the body.

    Raises:
        InvalidInput: it is missing without a default, too long, or not a text.
    """
    value = body.get(name, default)
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise InvalidInput(f"'{name}' must be given as a text of at most {LONGEST_TEXT} characters")
    return value


def read_header_object(request: Request, name: str) -> Document:
    """Return the JSON object in a header, {} if there is none.

    Raises:
        InvalidInput: it is too long, or not a JSON object.
    """
    text = request.headers.get(name, "")
    if not text:
        return {}
    try:
        values = _parse_strict(text) if len(text) <= MOST_BYTES else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InvalidInput(f"{name} must be a JSON object of at most {MOST_BYTES} bytes")
    return values


def _parse_strict(text: str | bytes) -> Any:
    """Parse strict JSON: no NaN, and no duplicate key, because parsers differ in which value they keep."""
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> Document:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise InvalidInput("a JSON object has a duplicate key")
    return values


def query_number(request: Request, name: str) -> int | None:
    """Return a whole number of the query, None if it is absent.

    Raises:
        InvalidInput: it is not a whole number.
    """
    text = request.query_params.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise InvalidInput(f"'{name}' must be a whole number")
    return int(text)


def read_if_match(request: Request) -> int | None:
    """Return the revision in ``If-Match``, None for any.

    Raises:
        InvalidInput: it is not a revision.
    """
    header = request.headers.get("if-match", "*").strip()
    if header == "*":
        return None
    matched = _REVISION.fullmatch(header)
    if matched is None:
        raise InvalidInput("If-Match must be the ETag of an earlier answer, or *")
    return int(matched[1] or matched[2])


async def read_chunks(request: Request, limit: int | None = None) -> AsyncIterator[bytes]:
    """Yield the body in chunks of about a megabyte; ``limit`` bounds its size in bytes.

    Raises:
        TooLarge: it is longer.
        DeadlineExceeded: the sender stopped sending, or sends too slowly.
        Cancelled: the client closed the connection.
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
            raise Cancelled("the client closed the connection") from None
        except TimeoutError:
            raise DeadlineExceeded("the body did not arrive in time") from None
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
