"""The three formats of log lines, with fields, secrets, tracebacks and hostile texts."""

import json
import logging
import sys
from typing import Any

import pytest

from penstock.telemetry.log_formats import LOG_FORMATS, format_timestamp, formatter_of
from tests.ecs import read_ecs


def record_of(message: str = "two of %d", *args: object, fields: dict[str, Any] | None = None) -> logging.LogRecord:
    record = logging.LogRecord("penstock.app", logging.WARNING, __file__, 1, message, args or (3,), None)
    record.created = 1_700_000_000.0625
    record.msecs = 62.0
    if fields is not None:
        record.fields = fields
    return record


def test_a_text_line_has_time_level_process_logger_message_and_fields() -> None:
    line = formatter_of("text", "control").format(record_of(fields={"trace.id": "ab", "user.name": ""}))
    assert line == "2023-11-14T22:13:20.062Z WARNING control penstock.app: two of 3 trace.id=ab"


def test_a_json_line_has_one_object() -> None:
    line = formatter_of("json", "worker-0").format(record_of(fields={"event.duration": 5}))
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.062Z",
        "level": "warning",
        "process": "worker-0",
        "logger": "penstock.app",
        "message": "two of 3",
        "event.duration": 5,
    }


def test_an_ecs_line_follows_the_schema() -> None:
    fields = {"trace.id": "0af7651916cd43dd8448eb211c80319c", "event.duration": 1200, "event.category": ["web"]}
    line = read_ecs(formatter_of("ecs", "control").format(record_of(fields=fields)))
    assert line["@timestamp"] == "2023-11-14T22:13:20.062Z"
    assert (line["log.level"], line["message"], line["service.name"]) == ("warning", "two of 3", "penstock")
    assert fields.items() <= line.items()


@pytest.mark.parametrize("log_format", ["json", "ecs"])
def test_a_traceback_stays_in_the_line(log_format: str) -> None:
    record = record_of()
    try:
        raise ValueError("no\nsuch thing")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = formatter_of(log_format, "control").format(record)
    values = json.loads(line)
    assert "\n" not in line
    assert (values["error.type"], values["error.message"]) == ("ValueError", "no\nsuch thing")
    assert values["error.stack_trace"].endswith("ValueError: no\nsuch thing")


@pytest.mark.parametrize("log_format", LOG_FORMATS)
def test_no_format_shows_a_secret(log_format: str) -> None:
    record = record_of("connect to %s", 'postgresql://u:Qz"7x@h', fields={"labels.a": 'x Qz"7x', "list": ['Qz"7x']})
    try:
        raise ValueError('Qz"7x')
    except ValueError:
        record.exc_info = sys.exc_info()
    line = formatter_of(log_format, "control", ['Qz"7x']).format(record)
    assert "Qz" not in line and "7x" not in line


@pytest.mark.parametrize("log_format", ["json", "ecs"])
def test_hostile_texts_stay_one_line_of_valid_json(log_format: str) -> None:
    line = formatter_of(log_format, "control").format(record_of('a"\n\x00\ud800}%s', "b"))
    assert json.loads(line)["message"] == 'a"\n\x00?}b'
    assert line.isascii()
    assert "\n" not in line


FORGED = "2026-11-30T00:00:00.000Z ERROR control x: forged"
BREAKS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("log_format", LOG_FORMATS)
@pytest.mark.parametrize("character", [*BREAKS, "\x00", "\x1b", "\x7f", "\x9b"])
def test_no_text_begins_a_line_or_commands_a_terminal(log_format: str, character: str) -> None:
    hostile = f"ok{character}{FORGED}"
    record = record_of("%s", hostile, fields={"http.request.id": hostile, "event.reason": hostile})
    line = formatter_of(log_format, "control").format(record)
    assert len(line.splitlines()) == 1 and character not in line


@pytest.mark.parametrize("character", BREAKS)
def test_no_line_of_a_traceback_passes_for_a_record(character: str) -> None:
    record = record_of()
    try:
        raise ValueError(f"ok{character}{FORGED}")
    except ValueError:
        record.exc_info = sys.exc_info()
    first, *rest = formatter_of("text", "control").format(record).splitlines()
    assert first.startswith("2023-") and rest[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in rest)


def test_a_field_in_text_stays_one_field() -> None:
    fields = {"http.request.id": 'a trace.id="b', "event.duration": 5, "event.type": ["access", "error"]}
    line = formatter_of("text", "control").format(record_of(fields=fields))
    assert line.endswith("""http.request.id="a trace.id=\\"b" event.duration=5 event.type="['access', 'error']\"""")


def test_times_are_rounded_down_to_milliseconds() -> None:
    assert format_timestamp(0.9996) == "1970-01-01T00:00:00.999Z"
