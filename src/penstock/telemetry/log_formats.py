"""Formats log records: plain text, JSON, and JSON in the Elastic Common Schema (ECS).

A record may carry ``fields``, a mapping of ECS field names to values (``extra={"fields": {...}}``); every format has
them. Libraries log addresses as they got them, so secrets are left out of every text.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from penstock.core.addresses import HIDDEN

ECS_VERSION: Final = "8.17.0"
SERVICE: Final = "penstock"
"""The value of ``service.name`` in logs, spans and metrics."""

LOG_FORMATS: Final = ("text", "json", "ecs")

Hide = Callable[[str], str]
"""Returns a text without the secrets in it."""


def hide_secrets(secrets: Collection[str]) -> Hide:
    """Return a function that replaces these secrets in a text."""
    if not secrets:
        return str
    longest_first = sorted(secrets, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return lambda text: pattern.sub(HIDDEN, text)


def formatter_of(log_format: str, process: str, secrets: Collection[str] = ()) -> logging.Formatter:
    """Return the formatter of a format of ``LOG_FORMATS``; ``process`` names the process in every line."""
    hide = hide_secrets(secrets)
    match log_format:
        case "json":
            return StructuredFormatter(process, hide, json_fields)
        case "ecs":
            return StructuredFormatter(process, hide, ecs_fields)
    return TextFormatter(process, hide)


class TextFormatter(logging.Formatter):
    """Formats time, level, process, logger, message and fields; a traceback follows only for a defect."""

    def __init__(self, process: str, hide: Hide = str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s")
        self._hide = hide

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is that of the library
        """Return the first line of a record."""
        pairs = [f" {name}={value}" for name, value in _fields(record).items()]
        return super().formatMessage(record) + "".join(pairs)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines, of a record."""
        return self._hide(super().format(record))


Values = Callable[[logging.LogRecord, str], dict[str, Any]]
"""Returns the values of a record of a process by their names, in the order in which they are written."""


class StructuredFormatter(logging.Formatter):
    """Formats each record as one line of JSON, also one with a traceback."""

    def __init__(self, process: str, hide: Hide, values: Values) -> None:
        super().__init__()
        self._process = process
        self._hide = hide
        self._values = values

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        values = {name: self._shown(value) for name, value in self._values(record, self._process).items()}
        return json.dumps(values, separators=(",", ":"), default=str)

    def _shown(self, value: Any) -> Any:
        """Return a value as it may be written: texts without secrets, and without what UTF-8 cannot hold."""
        if isinstance(value, str):
            return self._hide(value).encode("utf-8", "replace").decode()
        if isinstance(value, (list, tuple)):
            return [self._shown(item) for item in value]
        return value


def json_fields(record: logging.LogRecord, process: str) -> dict[str, Any]:
    """Return the values of a line of the format ``json``."""
    head = {
        "time": timestamp(record.created),
        "level": record.levelname.lower(),
        "process": process,
        "logger": record.name,
        "message": record.getMessage(),
    }
    return {**head, **_fields(record), **_error(record)}


def ecs_fields(record: logging.LogRecord, process: str) -> dict[str, Any]:
    """Return the values of a line of the format ``ecs``: the first three as the specification orders them."""
    head = {
        "@timestamp": timestamp(record.created),
        "log.level": record.levelname.lower(),
        "message": record.getMessage(),
        "ecs.version": ECS_VERSION,
        "service.name": SERVICE,
        "event.dataset": f"{SERVICE}.log",
        "log.logger": record.name,
        "process.pid": record.process,
        "process.title": process,
        "process.thread.name": record.threadName,
    }
    return {**head, **_fields(record), **_error(record)}


def timestamp(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z"


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return the fields of a record that are not empty."""
    stated = record.__dict__.get("fields")
    return {name: value for name, value in stated.items() if value not in ("", None)} if stated else {}


def _error(record: logging.LogRecord) -> dict[str, str]:
    """Return the exception of a record, with its traceback."""
    if record.exc_info is None or record.exc_info[1] is None:
        return {}
    error = record.exc_info[1]
    stack = logging.Formatter().formatException(record.exc_info)
    return {"error.type": type(error).__name__, "error.message": str(error), "error.stack_trace": stack}
