"""Request ids as header fields and metadata: both transports percent-encode the characters that HTTP does not allow."""

from typing import Final
from urllib.parse import quote

MAX_ID: Final = 1024
"""Maximum characters of a request id in a header field; a longer id is only in the body, because clients limit header
fields.
"""

_SAFE: Final = " !#$&'()*+,/:;=?@[]~"


def id_text(call_id: str) -> str:
    """Return a request id as a field value, "" for one that is too long."""
    if len(call_id) > MAX_ID:
        return ""
    text = call_id if call_id.isascii() and call_id.isprintable() else quote(call_id, safe=_SAFE)
    return text if len(text) <= MAX_ID else ""
