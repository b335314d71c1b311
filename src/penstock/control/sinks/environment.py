"""The environment of commands that the gateway starts for others: nothing of its own secrets is in it."""

from collections.abc import Mapping
from typing import Final

from penstock.core.addresses import hide_credentials

KEPT: Final = ("PATH", "HOME", "LANG")
PREFIX: Final = "PENSTOCK_"

_SECTIONS: Final = tuple(PREFIX + name for name in ("SECRETS", "SINKS", "AUTH"))
_SECRETS: Final = ("_TOKEN", "_PASSWORD", "_SECRET", "_KEY")
"""Ends of names of variables that hold a secret itself, and not a file with it."""


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what commands may see of an environment: PATH, HOME, LANG, and Penstock's settings without secrets."""
    return {
        name: value
        for name, value in environment.items()
        if name in KEPT or (name.startswith(PREFIX) and _is_plain(name, value))
    }


def _is_plain(name: str, value: str) -> bool:
    """Whether a setting of Penstock has no secret: neither itself, nor in an address."""
    return not name.startswith(_SECTIONS) and not name.endswith(_SECRETS) and hide_credentials(value) == value
