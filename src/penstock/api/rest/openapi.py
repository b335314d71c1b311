"""The OpenAPI description of the REST port, and a page that shows it without external content."""

from typing import Any

from penstock.core.explanations import BACKGROUNDS, METHODS, MOST_BUDGET_MS
from penstock.core.tensors import NUMPY_TYPES

Schema = dict[str, Any]

DATATYPES = tuple(NUMPY_TYPES)

_NAME: Schema = {"type": "string", "minLength": 1}
_PARAMETERS: Schema = {
    "type": "object",
    "description": "Extension parameters; names that begin with triton_ are refused.",
}
_SHAPE: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 32}
_DURATION: Schema = {
    "type": "object",
    "properties": {"count": {"type": "integer"}, "ns": {"type": "integer"}},
}
_SCHEMAS: dict[str, Schema] = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "Tensor": {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": _NAME,
            "shape": _SHAPE,
            "datatype": {"type": "string", "enum": DATATYPES},
            "parameters": _PARAMETERS,
            "data": {
                "type": "array",
                "description": "The elements, flat in row-major order or nested to the shape.",
                "items": {},
            },
        },
    },
    "RequestedOutput": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": _NAME, "parameters": _PARAMETERS},
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/RequestedOutput"}},
        },
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
    "ExplainRequest": {
        "type": "object",
        "description": "An infer request; its parameters choose the explanation.",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {
                "type": "object",
                "properties": {
                    "method": {"type": "string", "enum": list(METHODS)},
                    "outputs": {"description": "NAME or NAME:COLUMN, or a list of them, of one output."},
                    "background": {"type": "string", "enum": list(BACKGROUNDS)},
                    "budget_ms": {"type": "integer", "minimum": 1, "maximum": MOST_BUDGET_MS},
                    "seed": {"type": "integer", "minimum": 0},
                    "against": {"type": "string", "description": "A version whose answer is subtracted."},
                },
            },
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/RequestedOutput"}},
        },
    },
    "ExplainResponse": {
        "type": "object",
        "description": "The tensors attributions, base_value, prediction, error and features; the parameters say how "
        "the explanation was made.",
        "required": ["model_name", "model_version", "parameters", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
    "ServerMetadata": {
        "type": "object",
        "required": ["name", "version", "extensions"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "extensions": {"type": "array", "items": {"type": "string"}},
        },
    },
    "TensorMetadata": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string", "enum": DATATYPES},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        },
    },
    "ModelMetadata": {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorMetadata"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorMetadata"}},
            "properties": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
    "Live": {"type": "object", "required": ["live"], "properties": {"live": {"type": "boolean"}}},
    "Ready": {
        "type": "object",
        "required": ["ready"],
        "properties": {"ready": {"type": "boolean"}, "name": {"type": "string"}},
    },
    "Models": {
        "type": "object",
        "required": ["models"],
        "properties": {"models": {"type": "array", "items": {"type": "string"}}},
    },
    "ModelConfig": {
        "type": "object",
        "description": "The model configuration, fields path_parameters as in config.pbtxt.",
    },
    "Statistics": {
        "type": "object",
        "required": ["model_stats"],
        "properties": {
            "model_stats": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "version": {"type": "string"},
                        "last_inference": {"type": "integer"},
                        "inference_count": {"type": "integer"},
                        "execution_count": {"type": "integer"},
                        "inference_stats": {"type": "object", "additionalProperties": _DURATION},
                        "batch_stats": {"type": "array", "items": {"type": "object"}},
                    },
                },
            }
        },
    },
    "IndexRequest": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    "Index": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {key: {"type": "string"} for key in ("name", "version", "state", "reason")},
        },
    },
    "RepositoryRequest": {"type": "object", "properties": {"parameters": {"type": "object"}}},
    "FeedbackRequest": {
        "type": "object",
        "required": ["feedback"],
        "properties": {
            "feedback": {
                "type": "array",
                "maxItems": 10_000,
                "items": {
                    "type": "object",
                    "required": ["id"],
                    "properties": {
                        "id": {"type": "string"},
                        "label": {"description": "The true value; for a batch, a list with one value per row."},
                        "reward": {"type": "number", "minimum": 0, "maximum": 1},
                        "timestamp": {"type": ["string", "number"]},
                    },
                },
            }
        },
    },
    "FeedbackResponse": {
        "type": "object",
        "required": ["accepted", "unmatched"],
        "properties": {
            "accepted": {"type": "integer"},
            "unmatched": {"description": "Feedback whose answer is not stored.", "type": "integer"},
            "pending": {"description": "Feedback that waits for the gateway that gave the answer.", "type": "integer"},
        },
    },
    "Empty": {"type": "object"},
}

_ERRORS = {
    "400": "Invalid",
    "404": "Unknown model or version",
    "413": "Body over the limit",
    "429": "Overloaded; see Retry-After",
    "503": "Known but not ready",
    "504": "The deadline passed",
}


def describe_openapi(version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    paths: dict[str, Any] = {
        "/v2": _get("serverMetadata", "The server's name, version and extensions", "ServerMetadata"),
        "/v2/health/live": _get("serverLive", "Whether the server is live", "Live"),
        "/v2/health/ready": _get("serverReady", "Whether the server is ready", "Ready"),
        "/v2/models": _get("models", "The names of all models", "Models"),
        "/v2/models/stats": _get("allStatistics", "Counts of every served version", "Statistics"),
        "/v2/repository/index": _post("repositoryIndex", "Every version and its state", "IndexRequest", "Index"),
    }
    paths["/v2/models/{model}/feedback"] = _post(
        "feedback", "Labels or rewards of earlier answers", "FeedbackRequest", "FeedbackResponse", "model"
    )
    answers = paths["/v2/models/{model}/feedback"]["post"]["responses"]
    answers["202"] = answers.pop("200")
    for action in ("load", "unload"):
        path = f"/v2/repository/models/{{model_name}}/{action}"
        paths[path] = _post(
            f"model_{action}", f"{action.capitalize()} a model", "RepositoryRequest", "Empty", "model_name"
        )
    for suffix, path_parameters in (("", ("model",)), ("/versions/{version}", ("model", "version"))):
        prefix, tail = f"/v2/models/{{model}}{suffix}", "Version" if suffix else ""
        paths[prefix] = _get(f"metadata{tail}", "Inputs and outputs of a model", "ModelMetadata", *path_parameters)
        paths[f"{prefix}/ready"] = _get(f"ready{tail}", "Whether a model answers", "Ready", *path_parameters)
        paths[f"{prefix}/config"] = _get(
            f"config{tail}", "The configuration of a model", "ModelConfig", *path_parameters
        )
        paths[f"{prefix}/stats"] = _get(f"statistics{tail}", "Counts of a model", "Statistics", *path_parameters)
        paths[f"{prefix}/infer"] = _post(
            f"infer{tail}", "One prediction", "InferRequest", "InferResponse", *path_parameters
        )
        paths[f"{prefix}/explain"] = _post(
            f"explain{tail}", "Why a prediction is as it is", "ExplainRequest", "ExplainResponse", *path_parameters
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": version,
            "summary": "Open Inference Protocol V2, with the binary tensor extension",
            "description": "Every answer to an infer request names its version and the reason in the headers "
            "penstock-model-version and penstock-route. The header penstock-timeout-ms states a deadline.",
        },
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }


def _get(operation: str, summary: str, answer: str, *path_parameters: str) -> Schema:
    return {"get": _describe_operation(operation, summary, answer, path_parameters)}


def _post(operation: str, summary: str, body: str, answer: str, *path_parameters: str) -> Schema:
    described = _describe_operation(operation, summary, answer, path_parameters)
    described["requestBody"] = {
        "required": body in ("InferRequest", "ExplainRequest", "FeedbackRequest"),
        "content": _describe_content(body),
    }
    return {"post": described}


def _describe_operation(operation: str, summary: str, answer: str, path_parameters: tuple[str, ...]) -> Schema:
    failures = {code: {"description": text, "content": _describe_content("Error")} for code, text in _ERRORS.items()}
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": [{"name": name, "in": "path", "required": True, "schema": _NAME} for name in path_parameters],
        "responses": {"200": {"description": "Success", "content": _describe_content(answer)}, **failures},
    }


def _describe_content(schema: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


DOCS_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Penstock REST</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b2733}
details{border:1px solid #d5dde5;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}code,pre{font-family:ui-monospace,monospace;font-size:13px}
b.get{color:#0a7d4b}b.post{color:#1559b3}pre{background:#f4f7fa;padding:.6rem;overflow:auto;border-radius:4px}
</style></head><body><h1>Penstock REST</h1>
<p>Open Inference Protocol V2. The machine-readable form is <a href="/openapi.json">/openapi.json</a>.</p>
<div id="paths">Loading the description…</div><script>
const text=(tag,content,name)=>{
 const e=document.createElement(tag);e.textContent=content;if(name)e.className=name;return e};
fetch("/openapi.json").then(r=>r.json()).then(doc=>{
 const box=document.getElementById("paths");box.textContent="";
 const schema=c=>{
  const r=c&&c["application/json"].schema.$ref;return r?doc.components.schemas[r.split("/").pop()]:null};
 for(const [path,item] of Object.entries(doc.paths))for(const [method,op] of Object.entries(item)){
  const d=document.createElement("details"),s=document.createElement("summary");
  s.append(text("b",method.toUpperCase()+" ",method),text("code",path),text("span"," "+op.summary));d.append(s);
  if(op.requestBody)d.append(text("h4","Body"),text("pre",JSON.stringify(schema(op.requestBody.content),null,1)));
  for(const [code,answer] of Object.entries(op.responses))if(code==="200")
   d.append(text("h4","Response"),text("pre",JSON.stringify(schema(answer.content),null,1)));
   else d.append(text("div",code+" "+answer.description));
  box.append(d)}
}).catch(()=>{document.getElementById("paths").textContent="The description could not be read."});
</script></body></html>
"""
