"""Sends events to webhooks, as CloudEvents over HTTP, signed if the policy has a secret."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from penstock.control.sinks.base import STRUCTURED, SinkContext, json_bytes, secret_of
from penstock.control.sinks.http_post import exchange, post
from penstock.registry.records import Document


def ask_webhook(values: Mapping[str, Any], event: Document, context: SinkContext, wait_s: float) -> int:
    """Return the status with which a webhook answers an event; each wait takes at most ``wait_s``. Blocks.

    Raises:
        SinkFault: it does not answer, or its secret cannot be read.
    """
    return exchange(values["url"], *_message(values, event, context), wait_s)[0]


def send_to_webhook(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Send the event by POST."""
    post(values["url"], *_message(values, event, context))


def _message(values: Mapping[str, Any], event: Document, context: SinkContext) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers for a webhook, with a signature if there is a secret."""
    headers = {"content-type": STRUCTURED}
    body = json_bytes(event)
    if values.get("mode") == "binary":
        body = json_bytes(event["data"])
        attributes = {key: value for key, value in event.items() if key not in ("data", "datacontenttype")}
        headers = {f"ce-{key}": quote(str(value), safe=" :/.+-_") for key, value in attributes.items()}
        headers["content-type"] = "application/json"
    if "secret_file" in values:
        secret = secret_of(values["secret_file"], context)
        headers["penstock-signature"] = f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"
    return body, headers
