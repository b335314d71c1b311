"""The sinks of a policy: where events are sent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Document = Mapping[str, Any]

MOST_SINKS = 16
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")

REQUIRED, OPTIONAL = True, False

FIELDS: dict[str, dict[str, tuple[type, bool]]] = {
    "webhook": {"url": (str, REQUIRED), "secret_file": (str, OPTIONAL), "mode": (str, OPTIONAL)},
    "file": {"path": (str, REQUIRED)},
    "command": {"argv": (list, REQUIRED), "timeout_seconds": (float, OPTIONAL)},
    "airflow": {"url": (str, REQUIRED), "dag": (str, REQUIRED), "api": (str, OPTIONAL), "token_file": (str, OPTIONAL)},
    "prefect": {"url": (str, REQUIRED), "deployment": (str, REQUIRED), "token_file": (str, OPTIONAL)},
    "github": {"repository": (str, REQUIRED), "token_file": (str, REQUIRED), "url": (str, OPTIONAL)},
    "argo": {"url": (str, REQUIRED), "token_file": (str, OPTIONAL)},
    "kubeflow": {
        "url": (str, REQUIRED),
        "pipeline": (str, REQUIRED),
        "version": (str, OPTIONAL),
        "experiment": (str, OPTIONAL),
        "token_file": (str, OPTIONAL),
    },
    "nats": {"url": (str, REQUIRED), "subject": (str, REQUIRED), "token_file": (str, OPTIONAL)},
    "alertmanager": {"url": (str, REQUIRED), "token_file": (str, OPTIONAL)},
}
"""Each kind's settings: their type (``str``, ``float`` for seconds, ``list`` of texts), and whether they must be there;
sinks of other packages join it (``control.sinks.plugins.load_plugins``)."""

RUN_ONCE = frozenset({"command"})
"""Kinds that get an event once, and again only where a person asks for it: training twice is no repeat of a message."""

_CHOICES = {("webhook", "mode"): ("structured", "binary"), ("airflow", "api"): ("v2", "v1")}


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """One sink: its kind and its settings."""

    kind: str
    values: Document


def sinks_in(stated: Any, faults: list[str]) -> dict[str, SinkSpec]:
    """Parse the sinks of a policy; every error is added to ``faults`` with its path."""
    if not isinstance(stated, dict) or len(stated) > MOST_SINKS:
        faults.append(f"'sinks' must be an object of at most {MOST_SINKS}")
        return {}
    sinks = {}
    for name, item in stated.items():
        spec = _sink(item, f"sinks.{name}", faults)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            faults.append(f"'sinks.{str(name)[:64]}' is not a valid name for a sink")
        elif spec is not None:
            sinks[name] = spec
    return sinks


def _sink(stated: Any, path: str, faults: list[str]) -> SinkSpec | None:
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
            faults.append(f"'{path}.{kind}.{word}' is not valid: {_expected_text(kind, word)}")
    return SinkSpec(kind, dict(values)) if len(faults) == before else None


def _is_valid(kind: str, word: str, value: Any, wanted: type) -> bool:
    if wanted is float:
        return type(value) in (int, float) and 0 < value <= 86_400
    if wanted is list:
        return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)
    if not isinstance(value, str) or not value or not value.isprintable():
        return False
    if (kind, word) in _CHOICES:
        return value in _CHOICES[kind, word]
    if word == "url":
        parts = urlsplit(value)
        schemes = ("nats", "tls") if kind == "nats" else ("http", "https")
        return parts.scheme in schemes and bool(parts.hostname) and not parts.username
    return not (kind == "github" and word == "repository" and value.count("/") != 1)


def _expected_text(kind: str, word: str) -> str:
    if (kind, word) in _CHOICES:
        return "one of " + ", ".join(_CHOICES[kind, word])
    if word == "url":
        return (
            "a nats address without a user in it" if kind == "nats" else "an http or https address without a user in it"
        )
    return {"argv": "a list of texts", "timeout_seconds": "seconds up to a day"}.get(word, "a text")
