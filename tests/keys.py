"""API keys of a gateway under test, made by its owner's socket."""

from pathlib import Path
from typing import Any

from loadtests.access import ACCEPT_KEYS, ask_owner

__all__ = ["ACCEPT_KEYS", "create_key", "revoke_key"]


def create_key(folder: Path, name: str, *roles: str, **more: Any) -> str:
    """Return a new key at the gateway whose files are in this folder; ``more`` as the admin API takes it."""
    made = ask_owner(folder / "home", "POST", "/admin/v1/keys", {"name": name, "roles": list(roles), **more})
    key: str = made["key"]
    return key


def revoke_key(folder: Path, name: str) -> None:
    """Revoke the keys of a caller."""
    ask_owner(folder / "home", "DELETE", f"/admin/v1/keys/{name}", {})
