"""Request ids as header fields and metadata: what HTTP does not allow there is percent-encoded, in the same way on
both transports."""

from typing import Final
from urllib.parse import quote

MAX_ID: Final = 1024
"""Characters of a request id in a field; a longer one comes back in the body alone, as clients bound what they read."""

_SAFE: Final = " !#$&'()*+,/:;=?@[]~"


def id_text(call_id: str) -> str:
    """A request id as a field has it, "" for one that is too long for a field."""
    if len(call_id) > MAX_ID:
        return ""
    text = call_id if call_id.isascii() and call_id.isprintable() else quote(call_id, safe=_SAFE)
    return text if len(text) <= MAX_ID else ""
