"""The secrets that a sink uses: keys of webhooks, bearer tokens, and variables of commands."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from penstock.control.sinks.base import SinkContext, SinkFault
from penstock.control.sinks.secret_store import read_secret_file
from penstock.core.secrets import MissingSecret, Secret, SecretFault, signing_key
from penstock.core.sinks import BUILT_IN, SinkSpec

Values = Mapping[str, Any]
T = TypeVar("T")


def signing_keys(values: Values, context: SinkContext) -> list[bytes]:
    """Return the keys that sign a webhook, the present one first; none without a secret. Blocks; raises
    ``SinkFault``."""
    return _or_sink_fault(_signing_keys, values, context)


def bearer_token(values: Values, context: SinkContext) -> str | None:
    """Return the token of a sink, None without one. Blocks; raises ``SinkFault``."""
    return _or_sink_fault(_bearer_token, values, context)


def secret_variables(values: Values, context: SinkContext) -> dict[str, str]:
    """Return the environment variables of a command that hold secrets. Blocks; raises ``SinkFault``."""
    return _or_sink_fault(_secret_variables, values, context)


def secret_fault(spec: SinkSpec, context: SinkContext, allow_missing: bool = False) -> str:
    """Return why the secrets of a sink cannot be used, "" if they can. ``allow_missing`` passes secrets that are not on
    this machine. Blocks.
    """
    reader = _READERS.get(spec.kind, _bearer_token)
    try:
        if spec.kind in BUILT_IN:
            reader(spec.values, context.of(spec))
    except MissingSecret as fault:
        return "" if allow_missing else str(fault)
    except SecretFault as fault:
        return str(fault)
    return ""


def _signing_keys(values: Values, context: SinkContext) -> list[bytes]:
    stated = values.get("secret", [])
    names = [stated] if isinstance(stated, str) else stated
    return [signing_key(secret) for secret in _read_secrets(names, values.get("secret_file"), context)]


def _bearer_token(values: Values, context: SinkContext) -> str | None:
    names = [values["token"]] if "token" in values else []
    tokens = [secret.token() for secret in _read_secrets(names, values.get("token_file"), context)]
    return tokens[0] if tokens else None


def _secret_variables(values: Values, context: SinkContext) -> dict[str, str]:
    stated: Mapping[str, str] = values.get("secrets", {})
    return {name: context.secrets.get(secret).text() for name, secret in stated.items()}


_READERS: Mapping[str, Callable[[Values, SinkContext], object]] = {
    "webhook": _signing_keys,
    "command": _secret_variables,
}
"""What reads the secrets of each kind of sink; the others have a token at most."""


def _read_secrets(names: list[str], file: str | None, context: SinkContext) -> list[Secret]:
    if file is not None and not context.trusted:
        raise SecretFault("a policy gives secrets by name, not as a file")
    files = [] if file is None else [read_secret_file(context.home / file, file)]
    return files + [context.secrets.get(name) for name in names]


def _or_sink_fault(read: Callable[[Values, SinkContext], T], values: Values, context: SinkContext) -> T:
    try:
        return read(values, context)
    except SecretFault as fault:
        raise SinkFault(str(fault)) from None
