"""The JSON schema of sections of settings, with the sentence below each field as its description."""

import ast
import inspect
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from penstock.config.fields import Field, Section, plain_value

_SCALARS: Final[Mapping[Any, Mapping[str, Any]]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"format": "path", "type": "string"},
    Any: {},
    NoneType: {"type": "null"},
}
_LENGTHS: Final = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
_OF_MAPPINGS: Final = ("minProperties", "maxProperties")


def schema_of(section: type[Section]) -> dict[str, Any]:
    """Return the JSON schema of a section."""
    definitions: dict[str, Any] = {}
    return {**_describe_section(section, definitions), "$defs": definitions}


def _describe_section(section: type[Section], definitions: dict[str, Any]) -> dict[str, Any]:
    texts = _read_sentences(section)
    properties = {
        name: {
            **_describe_type(kind, definitions),
            **({} if section.is_required(name) else {"default": plain_value(getattr(section, name))}),
            **({"description": texts[name]} if name in texts else {}),
        }
        for name, kind in section.kinds.items()
    }
    required = [name for name in section.kinds if section.is_required(name)]
    return {
        "additionalProperties": False,
        "description": inspect.cleandoc(section.__doc__ or ""),
        "properties": properties,
        **({"required": required} if required else {}),
        "title": section.__name__,
        "type": "object",
    }


def _describe_type(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if get_args(kind):
        return _describe_composed(kind, definitions)
    if isinstance(kind, type) and issubclass(kind, Section):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = _describe_section(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return dict(_SCALARS[kind])


def _describe_composed(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type with parts."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"type": "string", **({"const": parts[0]} if len(parts) == 1 else {"enum": list(parts)})}
    if origin is Annotated:
        schema = _describe_type(parts[0], definitions)
        for note in parts[1:]:
            schema |= _describe_bounds(note, str(schema.get("type"))) if isinstance(note, Field) else {}
        return schema
    if origin is tuple:
        return {"type": "array", "items": _describe_type(parts[0], definitions)}
    if origin is Mapping:
        return {
            "type": "object",
            **_describe_items(_describe_type(parts[0], definitions), _describe_type(parts[1], definitions)),
        }
    return {"anyOf": [_describe_type(part, definitions) for part in parts]}


def _describe_items(key: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a mapping's values are, by the pattern of its keys if they have one."""
    if "pattern" in key:
        return {"patternProperties": {key["pattern"]: item}}
    return {"additionalProperties": item or True}


def _describe_bounds(field: Field, kind: str) -> dict[str, Any]:
    shortest, longest = _LENGTHS.get(kind, _OF_MAPPINGS)
    bounds = {
        "minimum": field.ge,
        "exclusiveMinimum": field.gt,
        "maximum": field.le,
        "pattern": field.pattern,
        shortest: field.min_length,
        longest: field.max_length,
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _read_sentences(section: type[Section]) -> dict[str, str]:
    """Return the sentence below each field of a class."""
    (definition,) = ast.parse(dedent(inspect.getsource(section))).body
    lines = definition.body if isinstance(definition, ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(lines)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
