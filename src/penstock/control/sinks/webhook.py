"""Sends events to webhooks, as CloudEvents over HTTP, signed if the sink has a secret."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from penstock.control.sinks.base import STRUCTURED, SinkContext, json_bytes
from penstock.control.sinks.credentials import signing_keys
from penstock.control.sinks.http_post import exchange, post
from penstock.core.webhook_signatures import bind_headers, sign_webhook
from penstock.registry.records import Document


def ask_webhook(values: Mapping[str, Any], event: Document, context: SinkContext, wait_s: float) -> int:
    """Return the status with which a webhook answers an event; each wait takes at most ``wait_s``. Blocks.

    Raises:
        SinkFault: it does not answer, or its secret cannot be read.
    """
    return exchange(values["url"], *_make_message(values, event, context), wait_s, context)[0]


def send_to_webhook(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Send the event by POST."""
    post(values["url"], *_make_message(values, event, context), context)


def _make_message(values: Mapping[str, Any], event: Document, context: SinkContext) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers for a webhook, with signatures if there is a secret."""
    keys = signing_keys(values, context)
    if values.get("mode") == "binary":
        body, message = json_bytes(event["data"]), ""
        attributes = {key: value for key, value in event.items() if key not in ("data", "datacontenttype")}
        headers = {f"ce-{key}": quote(str(value), safe=" :/.+-_") for key, value in attributes.items()}
        message = bind_headers(str(event["id"]), headers)
        headers["content-type"] = "application/json"
    else:
        body, message, headers = json_bytes(event), str(event["id"]), {"content-type": STRUCTURED}
    return body, headers | (sign_webhook(message, int(context.clock()), body, keys) if keys else {})
