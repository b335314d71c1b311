"""The parts of docs/reference/ that are written from the code: settings, commands, metrics and codes."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from penstock.cli import build
from penstock.cli.console import ExitCode
from penstock.config.settings import settings_schema
from penstock.core.access.endpoints import Requirement, Scope
from penstock.core.access.ops_endpoints import OPS
from penstock.core.access.permissions import ROLES, Permission
from penstock.core.errors import KINDS
from penstock.core.labels import GRPC_STATUS, HTTP_STATUS
from penstock.telemetry.metric import PREFIX
from penstock.telemetry.metrics import METRICS

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; ``head`` has the names of its columns, with bars between them."""
    columns = head.count("|") + 1
    lines = [f"| {head} |", "|---" * columns + "|"]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])


def settings() -> str:
    """Every setting with its default and description."""
    schema = settings_schema()
    return table("setting | default | meaning", _settings(schema, schema["properties"], ""))


def _settings(schema: dict[str, Any], properties: dict[str, Any], prefix: str) -> Iterator[tuple[str, ...]]:
    for name, part in properties.items():
        if "$ref" not in part:
            yield f"`{prefix}{name}`", _default(part), part["description"]
        for reference, suffix in _sections(part):
            section = schema["$defs"][reference.rpartition("/")[2]]
            yield from _settings(schema, section["properties"], f"{prefix}{name}{suffix}.")


def _default(part: dict[str, Any]) -> str:
    if "default" not in part:
        return "required"
    return "none" if part["default"] is None else f"`{json.dumps(part['default'])}`"


def _sections(part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The sections that a setting is or may be, or has a list of, each with what stands behind its name."""
    for item in (part, *part.get("anyOf", ())):
        if "$ref" in item:
            yield item["$ref"], ""
        if "$ref" in item.get("items", {}):
            yield item["items"]["$ref"], "[]"


def metrics() -> str:
    """Every metric with its kind, labels and help text."""
    rows = (
        (f"`{PREFIX}{metric.name}`", metric.kind.value, ", ".join(metric.labels), metric.help) for metric in METRICS
    )
    return table("metric | kind | labels | meaning", rows)


def codes() -> str:
    """Every kind of error with its HTTP and gRPC code."""
    rows = (
        (f"`{kind.kind}`", str(HTTP_STATUS[kind.kind]), GRPC_STATUS[kind.kind], _first_line(kind)) for kind in KINDS
    )
    return table("kind | HTTP | gRPC | meaning", rows)


def _first_line(documented: object) -> str:
    return " ".join((documented.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")


def exits() -> str:
    """Every exit code of the command line."""
    return table("code | name", ((f"{code.value}", code.name.lower().replace("_", " ")) for code in ExitCode))


def commands() -> str:
    """Every command with its arguments and options, as its help has them."""
    root: Any = typer.main.get_command(build([]))
    return "\n\n".join(_command(command, path) for command, path in _leaves(root, "penstock"))


def _leaves(command: Any, path: str) -> Iterator[tuple[Any, str]]:
    """Each command that does something, with the words that call it, by name."""
    if not hasattr(command, "commands"):
        yield command, path
    for name in sorted(getattr(command, "commands", {})):
        yield from _leaves(command.commands[name], f"{path} {name}")


def _command(command: Any, path: str) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    records = [record for param in command.params if (record := param.get_help_record(context))]
    rows = [(f"`{names}`", _escaped(text)) for names, text in records if "--help" not in names]
    parts = [f"### {path}", _escaped(command.help or ""), f"```text\n{usage}\n```"]
    return "\n\n".join([*parts, table("parameter | meaning", rows)] if rows else parts)


def _escaped(text: str) -> str:
    """A help text as a line of Markdown."""
    return re.sub(r"([\[\]<>])", r"\\\1", " ".join(text.split()))


def roles() -> str:
    """Every role that is more than one permission, with its permissions."""
    bundles = {name: held for name, held in ROLES.items() if name not in set(Permission)}
    rows = (
        (f"`{name}`", ", ".join(f"`{item.value}`" for item in Permission if item in held))
        for name, held in bundles.items()
    )
    return table("role | permissions", rows)


def ops_endpoints() -> str:
    """Every endpoint of the ops port with its permission and scope."""
    rows = ((f"`{name.replace('/admin/v1', '')}`", *_requirement(need)) for name, need in OPS.items())
    return table("endpoint | permission | for", rows)


def _requirement(need: Requirement) -> tuple[str, str]:
    if need.public:
        return "none", ""
    if not need.permissions:
        return "any credential", ""
    scopes = {Scope.MODEL: "the model", Scope.SOME_MODEL: "some model", Scope.ALL_MODELS: "all models"}
    return " or ".join(f"`{item.value}`" for item in sorted(need.permissions)), scopes[need.scope]


def report_fields() -> str:
    """Every field of the report of a load test, as its schema has them."""
    schema = json.loads((REFERENCE / "loadtest.schema.json").read_text())
    return table("field | type | meaning", _fields(schema, ""))


def _fields(schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, ...]]:
    for name, part in schema.get("properties", {}).items():
        kinds = part.get("type", "object")
        yield f"`{prefix}{name}`", " or ".join([kinds] if isinstance(kinds, str) else kinds), _meaning(part)
        for nested, suffix in ((part, "."), (part.get("items", {}), "[].")):
            yield from _fields(nested, f"{prefix}{name}{suffix}")
        if isinstance(values := part.get("additionalProperties"), dict):
            yield from _fields(values, f"{prefix}{name}.….")


def _meaning(part: dict[str, Any]) -> str:
    values = ", ".join(f"`{value}`" for value in part.get("enum", ()))
    durations = ", by `p50` to `p99.99`, `mean` and `max`" if "$ref" in part else ""
    return str(part["description"]) + (f": {values}" if values else "") + durations


BLOCKS: dict[tuple[str, str], Callable[[], str]] = {
    ("configuration.md", "settings"): settings,
    ("metrics.md", "metrics"): metrics,
    ("error-codes.md", "codes"): codes,
    ("error-codes.md", "exits"): exits,
    ("cli.md", "commands"): commands,
    ("loadtest.md", "fields"): report_fields,
    ("access.md", "roles"): roles,
    ("access.md", "ops"): ops_endpoints,
}
"""Page and name of each block, and what writes it."""


def block(page: str, name: str) -> re.Match[str]:
    """What stands between the marks of a block."""
    found = re.search(
        rf"(?<=<!-- {name}: written from the code -->\n\n).*?(?=\n\n<!-- end of {name} -->)",
        (REFERENCE / page).read_text(),
        re.DOTALL,
    )
    assert found, f"{page} has no block {name}"
    return found


def write(page: str, name: str) -> None:
    """Put what the code says now into a block."""
    old = block(page, name)
    (REFERENCE / page).write_text(old.string[: old.start()] + BLOCKS[page, name]() + old.string[old.end() :])
