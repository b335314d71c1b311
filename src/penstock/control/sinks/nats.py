"""Publishes events to a JetStream stream of NATS (extra ``nats``)."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from penstock.control.sinks.base import STRUCTURED, WAIT_S, SinkContext, SinkFault, json_bytes
from penstock.control.sinks.credentials import bearer_token
from penstock.control.sinks.http_post import UNREACHABLE
from penstock.registry.records import Document

PORT = 4222
WHOLE_S = 3 * WAIT_S
"""Maximum time of one message, including connection and handshakes."""


def publish_to_nats(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Publish a message to a JetStream stream with acknowledgement; the event's id as message id lets the server drop
    duplicates.
    """
    try:
        import nats  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise SinkFault("NATS needs the extra 'nats': pip install 'penstock[nats]'", final=True) from None
    token, (url, options) = bearer_token(values, context), _resolve_server(values["url"], context)

    async def publish() -> None:
        async with asyncio.timeout(WHOLE_S):
            await connect_and_publish()

    async def connect_and_publish() -> None:
        client = await nats.connect(url, token=token, connect_timeout=WAIT_S, allow_reconnect=False, **options)
        try:
            headers = {"Nats-Msg-Id": str(event["id"]), "content-type": STRUCTURED}
            headers |= {"traceparent": context.traceparent} if context.traceparent else {}
            await client.jetstream(timeout=WAIT_S).publish(values["subject"], json_bytes(event), headers=headers)
        finally:
            await client.close()

    try:
        asyncio.run(publish())
    except (nats.errors.Error, OSError, TimeoutError) as error:
        reason = f"it does not take the event: {type(error).__name__}"
        raise SinkFault(reason if context.trusted else UNREACHABLE) from None


def _resolve_server(url: str, context: SinkContext) -> tuple[str, dict[str, str]]:
    """Return the URL to connect to, and options. Of a sink that a policy declares, the name is resolved here once, and
    the library gets an address that is permitted.

    Raises:
        SinkFault: there is none.
    """
    if context.trusted:
        return url, {}
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORT
    try:
        found = {str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        found = set()
    permitted = sorted(address for address in found if context.permits(address))
    if not permitted:
        raise SinkFault(UNREACHABLE)
    address = f"[{permitted[0]}]" if ":" in permitted[0] else permitted[0]
    return f"{parts.scheme}://{address}:{port}", {"tls_hostname": host} if parts.scheme == "tls" else {}
