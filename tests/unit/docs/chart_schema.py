"""What the chart has from elsewhere: the settings in the schema of its values, rules of Prometheus, and dashboards."""

import json
from pathlib import Path
from typing import Any

from penstock.config.settings import settings_schema

DEPLOY = Path(__file__).parents[3] / "deploy"
CHART = DEPLOY / "helm" / "penstock"
SCHEMA = CHART / "values.schema.json"
OF_THE_CHART = (
    "home",
    "registry",
    "host",
    "http_port",
    "grpc_port",
    "ops_port",
    "ops_host",
    "health_port",
    "health_host",
    "ready_file",
    "tls",
)
"""Settings that the chart sets itself: nobody states them in `config`."""

PREFIX = "settings."


def copies() -> dict[Path, Path]:
    """The files of the chart that are copies, since a chart holds no links, and what each is a copy of."""
    dashboards = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
    rules = DEPLOY / "prometheus" / "penstock.rules.yml"
    files = CHART / "files"
    return {files / rules.name: rules, **{files / "dashboards" / one.name: one for one in dashboards}}


def schema_text() -> str:
    """The schema as it should be: what is written there by hand, and the settings."""
    written: dict[str, Any] = json.loads(SCHEMA.read_text())
    settings = _plain(settings_schema())
    own = {name: part for name, part in written["$defs"].items() if not name.startswith(PREFIX)}
    config = {name: part for name, part in settings["properties"].items() if name not in OF_THE_CHART}
    config["workers"] = {**config["workers"]["anyOf"][0], "description": config["workers"]["description"]}
    written["$defs"] = own | {f"{PREFIX}{name}": part for name, part in settings["$defs"].items()}
    required = ["workers", "stop"]  # /dev/shm and the time to end follow from them
    written["properties"]["config"] = {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": config,
    }
    return json.dumps(written, indent=2) + "\n"


def _plain(part: Any) -> Any:
    """A schema without titles, defaults and null, which Helm takes as the absence of a value."""
    if isinstance(part, list):
        return [_plain(item) for item in part if item != {"type": "null"}]
    if not isinstance(part, dict):
        return part.replace("#/$defs/", f"#/$defs/{PREFIX}") if isinstance(part, str) else part
    kept = {
        name: {inner: _plain(item) for inner, item in value.items()} if name in _KEYED else _plain(value)
        for name, value in part.items()
        if name not in {"title", "default"}
    }
    if len(kept.get("anyOf", ())) == 1:
        return {**{name: item for name, item in kept.items() if name != "anyOf"}, **kept["anyOf"][0]}
    return kept


_KEYED = ("properties", "$defs")
"""What has names of settings as keys, which are not those of a schema."""
