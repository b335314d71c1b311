"""Publishes events to a JetStream stream of NATS (extra ``nats``)."""

import asyncio
from collections.abc import Mapping
from typing import Any

from penstock.control.sinks.base import STRUCTURED, WAIT_S, SinkContext, SinkFault, json_bytes, secret_of
from penstock.registry.records import Document

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
    token = secret_of(values["token_file"], context).decode(errors="replace") if "token_file" in values else None

    async def publish() -> None:
        client = await nats.connect(values["url"], token=token, connect_timeout=WAIT_S, allow_reconnect=False)
        try:
            headers = {"Nats-Msg-Id": str(event["id"]), "content-type": STRUCTURED}
            await client.jetstream(timeout=WAIT_S).publish(values["subject"], json_bytes(event), headers=headers)
        finally:
            await client.close()

    try:
        asyncio.run(asyncio.wait_for(publish(), WHOLE_S))
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise SinkFault(f"it does not take the event: {type(error).__name__}") from None
