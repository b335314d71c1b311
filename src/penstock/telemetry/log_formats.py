"""Formats log records: plain text, JSON, and JSON in the Elastic Common Schema (ECS).

A record may carry ``fields``, a mapping of ECS field names to values (``extra={"fields": {...}}``); every format has
them. Libraries log addresses as they got them, so secrets are left out of every text. Texts of callers, such as request
ids, cannot begin a line or a field of their own.
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


_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that move to another line or command a terminal: C0, C1 and the separators of Unicode."""

_ENDS_FIELD: Final = re.compile(r'[\s"]')


def escape_controls(text: str) -> str:
    """Return a text in one line, its control characters as escapes of Python."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


class TextFormatter(logging.Formatter):
    """Formats time, level, process, logger, message and fields in one line; a traceback follows only for a defect, and
    its lines are indented."""

    def __init__(self, process: str, hide: Hide = str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s")
        self._hide = hide

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is that of the library
        """Return the first line of a record."""
        pairs = [f" {name}={_field_text(self._hide(str(value)))}" for name, value in _pick_fields(record).items()]
        return escape_controls(self._hide(super().formatMessage(record)) + "".join(pairs))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is that of the library
        """Return a traceback whose lines cannot be taken for records."""
        lines = self._hide(super().formatException(ei)).split("\n")
        return "\n".join([f"  {escape_controls(line)}" for line in lines])

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines, of a record."""
        return self._hide(super().format(record))


def _field_text(text: str) -> str:
    """Return the value of a field, quoted if it could be taken for several fields."""
    return json.dumps(text, ensure_ascii=False) if _ENDS_FIELD.search(text) else text


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
        "time": format_timestamp(record.created),
        "level": record.levelname.lower(),
        "process": process,
        "logger": record.name,
        "message": record.getMessage(),
    }
    return {**head, **_pick_fields(record), **_describe_error(record)}


def ecs_fields(record: logging.LogRecord, process: str) -> dict[str, Any]:
    """Return the values of a line of the format ``ecs``: the first three as the specification orders them."""
    head = {
        "@timestamp": format_timestamp(record.created),
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
    return {**head, **_pick_fields(record), **_describe_error(record)}


def format_timestamp(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z"


def _pick_fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return the fields of a record that are not empty."""
    stated = record.__dict__.get("fields")
    return {name: value for name, value in stated.items() if value not in ("", None)} if stated else {}


def _describe_error(record: logging.LogRecord) -> dict[str, str]:
    """Return the exception of a record, with its traceback."""
    if record.exc_info is None or record.exc_info[1] is None:
        return {}
    error = record.exc_info[1]
    stack = logging.Formatter().formatException(record.exc_info)
    return {"error.type": type(error).__name__, "error.message": str(error), "error.stack_trace": stack}
