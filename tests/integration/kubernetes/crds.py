"""The schemas of custom resources, as their projects publish them: reduced for ``crds``, and read as strict ones.

``python -m tests.integration.kubernetes.crds PROJECT VERSION FILE...`` reduces CustomResourceDefinitions anew. The
schemas are under the Apache License 2.0, as this project is. Texts, defaults, status, rules in CEL are left out, and
parts of a specification that no manifest here has (``_LEFT_OUT``).
"""

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).with_name("crds")
_LEFT_OUT = {
    "ClusterServingRuntime": {"builtInAdapter", "workerSpec"},
    "InferenceService": {
        *("canary", "explainer", "transformer", "workerSpec", "containers", "initContainers", "logger", "autoScaling"),
        *("huggingface", "lightgbm", "onnx", "paddle", "pmml", "pytorch", "sklearn", "tensorflow", "triton", "xgboost"),
    },
}
_NO_CONSTRAINT = {"description", "default", "externalDocs", "x-kubernetes-validations"}

Schema = dict[str, Any]


def reduced(definition: Schema) -> Iterator[tuple[str, Schema]]:
    """Each version of a definition: its API version with its kind, and its schema."""
    spec = definition["spec"]
    kind = spec["names"]["kind"]
    for version in spec["versions"]:
        schema = _reduce(version["schema"]["openAPIV3Schema"], _LEFT_OUT.get(kind, set()))
        schema["properties"].pop("status", None)
        yield f"{spec['group']}/{version['name']}/{kind}", schema


def _reduce(schema: Schema, left_out: set[str]) -> Schema:
    """A schema without what constrains nothing; names of fields are not keywords."""
    kept: Schema = {}
    for keyword, value in schema.items():
        if keyword in _NO_CONSTRAINT or keyword.startswith(("x-kubernetes-list", "x-kubernetes-map")):
            continue
        if keyword == "properties":
            kept[keyword] = {name: _reduce(one, left_out) for name, one in value.items() if name not in left_out}
        elif keyword in ("items", "additionalProperties") and isinstance(value, dict):
            kept[keyword] = _reduce(value, left_out)
        else:
            kept[keyword] = value
    return kept


@cache
def custom_schemas() -> dict[str, Schema]:
    """The schemas in ``crds`` by API version and kind, which refuse unknown fields as an API server does on demand."""
    found: dict[str, Schema] = {}
    for file in FOLDER.glob("*.yaml"):
        found |= {name: _strict(schema) for name, schema in yaml.load(file.read_text(), yaml.CSafeLoader).items()}
    return found


def _strict(schema: Schema) -> Schema:
    """OpenAPI's form of a schema as JSON Schema, closed but where the definition keeps unknown fields."""
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: _strict(one) for name, one in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    for keyword in ("items", "additionalProperties"):
        if isinstance(closed.get(keyword), dict):
            closed[keyword] = _strict(closed[keyword])
    if closed.pop("nullable", False) and "type" in closed:
        closed["type"] = [closed["type"], "null"]
    return closed


def main(project: str, version: str, *files: str) -> None:
    """Write the reduced schemas of some files of a project into ``crds``."""
    schemas = {
        name: schema for file in files for name, schema in reduced(yaml.load(Path(file).read_text(), yaml.CSafeLoader))
    }
    text = yaml.safe_dump(schemas, default_flow_style=True, width=140)
    head = f"# {project} {version}, Apache License 2.0: CustomResourceDefinitions, reduced by crds.py.\n"
    (FOLDER / f"{project}.yaml").write_text(head + text)


if __name__ == "__main__":
    main(*sys.argv[1:])
