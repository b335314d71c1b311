"""Sinks: where events are sent, as a policy or the configuration declares them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

Document = Mapping[str, Any]

MOST_SINKS = 16
MOST_KEYS = 2
"""Most secrets that sign one webhook: the new one and the one before."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

REQUIRED, OPTIONAL = True, False


class SecretName:
    """The type of a setting that names a secret of the configuration."""


class SecretNames:
    """The type of a setting that names one secret of the configuration, or the new and the old one of a rotation."""


FIELDS: dict[str, dict[str, tuple[type, bool]]] = {
    "webhook": {
        "url": (str, REQUIRED),
        "secret": (SecretNames, OPTIONAL),
        "secret_file": (str, OPTIONAL),
        "mode": (str, OPTIONAL),
    },
    "file": {"path": (str, REQUIRED)},
    "command": {"argv": (list, REQUIRED), "timeout_seconds": (float, OPTIONAL), "secrets": (dict, OPTIONAL)},
    "airflow": {
        "url": (str, REQUIRED),
        "dag": (str, REQUIRED),
        "api": (str, OPTIONAL),
        "token": (SecretName, OPTIONAL),
        "token_file": (str, OPTIONAL),
    },
    "prefect": {
        "url": (str, REQUIRED),
        "deployment": (str, REQUIRED),
        "token": (SecretName, OPTIONAL),
        "token_file": (str, OPTIONAL),
    },
    "github": {
        "repository": (str, REQUIRED),
        "token": (SecretName, OPTIONAL),
        "token_file": (str, OPTIONAL),
        "url": (str, OPTIONAL),
    },
    "argo": {"url": (str, REQUIRED), "token": (SecretName, OPTIONAL), "token_file": (str, OPTIONAL)},
    "kubeflow": {
        "url": (str, REQUIRED),
        "pipeline": (str, REQUIRED),
        "version": (str, OPTIONAL),
        "experiment": (str, OPTIONAL),
        "token": (SecretName, OPTIONAL),
        "token_file": (str, OPTIONAL),
    },
    "nats": {
        "url": (str, REQUIRED),
        "subject": (str, REQUIRED),
        "token": (SecretName, OPTIONAL),
        "token_file": (str, OPTIONAL),
    },
    "alertmanager": {"url": (str, REQUIRED), "token": (SecretName, OPTIONAL), "token_file": (str, OPTIONAL)},
}
"""Each kind's settings: their type (``str``, ``float`` for seconds, ``list`` of texts, ``dict`` of environment
variables to names of secrets, or names of secrets), and whether they must be there; sinks of other packages join it
(``control.sinks.plugins.load_plugins``)."""

BUILT_IN = frozenset(FIELDS)
"""The kinds of this package. What sinks of other packages do with their settings is not known here."""

DEFAULT_URLS = {"github": "https://api.github.com"}
"""The addresses of kinds that have one by default."""

RUN_ONCE = frozenset({"command"})
"""Kinds that get an event once, and again only where a person asks for it: training twice repeats no message."""

_CHOICES = {("webhook", "mode"): ("structured", "binary"), ("airflow", "api"): ("v2", "v1")}


class SinkOrigin(StrEnum):
    """Who declared a sink, which decides what it may reach."""

    CONFIGURATION = "configuration"
    """The operator, in the configuration."""

    OWNER = "owner"
    """The gateway's own user, in a policy set by the unix socket."""

    POLICY = "policy"
    """Somebody else who may administer the model, in a policy: listed hosts, one folder and secrets by name only."""


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """One sink: its kind, its settings, and who declared it."""

    kind: str
    values: Document
    origin: SinkOrigin = SinkOrigin.POLICY

    @property
    def is_trusted(self) -> bool:
        """Whether it may reach whatever the gateway's user may."""
        return self.origin is not SinkOrigin.POLICY

    @property
    def url(self) -> str:
        """Return the address that events go to, "" for none."""
        stated = self.values.get("url", DEFAULT_URLS.get(self.kind, ""))
        return stated if isinstance(stated, str) else ""

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Return the names of the secrets that it uses; sinks of other packages use none."""
        if self.kind not in BUILT_IN:
            return ()
        keys, values = self.values.get("secret", []), self.values
        tokens = [values["token"]] if "token" in values else []
        return (*([keys] if isinstance(keys, str) else keys), *tokens, *values.get("secrets", {}).values())


def parse_sinks(
    stated: Any, faults: list[str], origins: Mapping[str, SinkOrigin] | SinkOrigin = SinkOrigin.POLICY
) -> dict[str, SinkSpec]:
    """Parse sinks; every error is added to ``faults`` with its path. ``origins`` says who declared them, one for all or
    each by its name."""
    if not isinstance(stated, dict) or len(stated) > MOST_SINKS:
        faults.append(f"'sinks' must be an object of at most {MOST_SINKS}")
        return {}
    sinks = {}
    for name, item in stated.items():
        origin = origins if isinstance(origins, SinkOrigin) else origins.get(name, SinkOrigin.POLICY)
        spec = _parse_sink(item, f"sinks.{name}", faults, origin)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            faults.append(f"'sinks.{str(name)[:64]}' is not a valid name for a sink")
        elif spec is not None:
            sinks[name] = spec
    return sinks


def _parse_sink(stated: Any, path: str, faults: list[str], origin: SinkOrigin) -> SinkSpec | None:
    if not isinstance(stated, dict) or len(stated) != 1 or next(iter(stated)) not in FIELDS:
        faults.append(f"'{path}' must be an object with one of {', '.join(FIELDS)}")
        return None
    kind, values = next(iter(stated.items()))
    fields = FIELDS[kind]
    if not isinstance(values, dict):
        faults.append(f"'{path}.{kind}' must be an object")
        return None
    before = len(faults)
    faults += [f"'{path}.{kind}.{word}' is not a setting" for word in sorted(set(values) - set(fields))]
    faults += [
        f"'{path}.{kind}.{word}' is missing" for word, (_, must) in fields.items() if must and word not in values
    ]
    for word in sorted(set(values) & set(fields)):
        if not _is_valid(kind, word, values[word], fields[word][0]):
            faults.append(f"'{path}.{kind}.{word}' is not valid: {_expected_text(kind, word, fields[word][0])}")
    faults += _find_contradictions(kind, values, f"{path}.{kind}")
    return SinkSpec(kind, dict(values), origin) if len(faults) == before else None


def _find_contradictions(kind: str, values: Document, path: str) -> list[str]:
    """Return what a sink's settings say twice, or not at all."""
    if kind not in BUILT_IN:
        return []
    faults = [
        f"'{path}' has both '{word}' and '{word}_file'; give one of them"
        for word in ("secret", "token")
        if word in values and f"{word}_file" in values
    ]
    if kind == "github" and not {"token", "token_file"} & set(values):
        faults.append(f"'{path}.token' is missing")
    return faults


def _is_valid(kind: str, word: str, value: Any, wanted: type) -> bool:
    if wanted is float:
        return type(value) in (int, float) and 0 < value <= 86_400
    if wanted is list:
        return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)
    if wanted is SecretNames:
        names = value if isinstance(value, list) else [value]
        return 0 < len(names) <= MOST_KEYS and all(map(_is_name, names)) and len(set(names)) == len(names)
    if wanted is SecretName:
        return _is_name(value)
    if wanted is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and VARIABLE.fullmatch(key) and _is_name(item) for key, item in value.items()
        )
    if not isinstance(value, str) or not value or not value.isprintable():
        return False
    if (kind, word) in _CHOICES:
        return value in _CHOICES[kind, word]
    if word == "url":
        return _is_address(value, ("nats", "tls") if kind == "nats" else ("http", "https"))
    return not (kind == "github" and word == "repository" and value.count("/") != 1)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _is_address(value: str, schemes: tuple[str, ...]) -> bool:
    """Whether a text is an address that every library reads alike: without a user, spaces or backslashes."""
    try:
        parts = urlsplit(value)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = not any(character.isspace() or character == "\\" for character in value) and "@" not in parts.netloc
    return parts.scheme in schemes and bool(parts.hostname) and has_port and plain


def _expected_text(kind: str, word: str, wanted: type) -> str:
    if (kind, word) in _CHOICES:
        return "one of " + ", ".join(_CHOICES[kind, word])
    if word == "url":
        return (
            "a nats address without a user in it" if kind == "nats" else "an http or https address without a user in it"
        )
    if wanted in (SecretName, SecretNames):
        return "the name of a secret of the configuration" + (", or of two" if wanted is SecretNames else "")
    expected = {"argv": "a list of texts", "timeout_seconds": "seconds up to a day"}
    return expected.get(word, "names of variables with names of secrets" if wanted is dict else "a text")
