"""The description of ``/score`` for tools of Azure Machine Learning: Swagger 2.0, and the OpenAPI 3 form of all
paths."""

from typing import Any, Final

from penstock.api.rest.openapi import describe_openapi

_INPUT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "input_data": {
            "type": "object",
            "properties": {
                "columns": {"type": "array", "items": {"type": "string"}},
                "index": {"type": "array", "items": {"type": "integer"}},
                "data": {"type": "array", "items": {"type": "array", "items": {}}},
            },
        }
    },
}
_OUTPUT: Final[dict[str, Any]] = {"type": "array", "items": {}}
_SUMMARY: Final = "Predict rows by the default model"


def describe(form: str, version: str) -> dict[str, Any] | None:
    """Return the description in the form "2" (Swagger) or "3" (OpenAPI), None for another; ``version`` is that of
    Penstock."""
    if form == "2":
        return _describe_swagger(version)
    return _describe_openapi(version) if form == "3" else None


def _describe_swagger(version: str) -> dict[str, Any]:
    body = {"name": "body", "in": "body", "required": True, "schema": {"$ref": "#/definitions/Rows"}}
    answer = {"200": {"description": "Success", "schema": {"$ref": "#/definitions/Predictions"}}}
    return {
        "swagger": "2.0",
        "info": {"title": "Penstock", "version": version},
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "paths": {
            "/score": {"post": {"operationId": "score", "summary": _SUMMARY, "parameters": [body], "responses": answer}}
        },
        "definitions": {"Rows": _INPUT, "Predictions": _OUTPUT},
    }


def _describe_openapi(version: str) -> dict[str, Any]:
    described = describe_openapi(version)
    post = {
        "operationId": "score",
        "summary": _SUMMARY,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _INPUT}}},
        "responses": {"200": {"description": "Success", "content": {"application/json": {"schema": _OUTPUT}}}},
    }
    return {**described, "paths": {**described["paths"], "/score": {"post": post}}}
