"""Which header fields a prediction by way of the ops port may state: those that rules and sticky splits may look at,
and none by which an HTTP message is framed, addressed or authenticated."""

import re
from collections.abc import Mapping
from typing import Any, Final

from penstock.core.errors import InvalidInput

MOST_FIELDS: Final = 16
LONGEST_VALUE: Final = 256

_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
_KEPT: Final = frozenset(
    {
        "authorization",
        "connection",
        "expect",
        "host",
        "inference-header-content-length",
        "keep-alive",
        "origin",
        "penstock-timeout-ms",
        "penstock-timing",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_KEPT_PREFIXES: Final = ("accept", "content-", "proxy-", "sec-")


def check_forwarded(stated: Mapping[str, Any]) -> dict[str, str]:
    """Return fields after a check, their names in lower case.

    Raises:
        InvalidInput: a field cannot be stated, or there are too many.
    """
    if len(stated) > MOST_FIELDS:
        raise InvalidInput(f"penstock-forward may have at most {MOST_FIELDS} fields")
    return dict(_check_field(name, value) for name, value in stated.items())


def _check_field(stated: str, value: Any) -> tuple[str, str]:
    name = stated.lower()
    if _NAME.fullmatch(name) is None or name in _KEPT or name.startswith(_KEPT_PREFIXES):
        raise InvalidInput(f"penstock-forward cannot state the field '{stated[:64]}'")
    if not isinstance(value, str) or len(value) > LONGEST_VALUE or _VALUE.fullmatch(value) is None:
        raise InvalidInput(f"penstock-forward: '{name}' must be 1 to {LONGEST_VALUE} ASCII characters")
    return name, value
