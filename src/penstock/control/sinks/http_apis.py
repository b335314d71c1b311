"""Sends events to the HTTP APIs of workflow engines and of Alertmanager, each in its own format."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from penstock.control.sinks.base import SinkContext, json_bytes
from penstock.control.sinks.http_post import post, read_bearer
from penstock.core.sinks import DEFAULT_URLS
from penstock.registry.records import Document


def send_to_airflow(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Trigger a DAG run of Airflow's REST API; its id is the event's, so 409 means that it exists already."""
    body: dict[str, Any] = {"dag_run_id": f"penstock-{event['id'][:32]}", "conf": event}
    newer = values.get("api", "v2") == "v2"
    if newer:
        body["logical_date"] = None  # required, though it may be null
    path = f"/api/{'v2' if newer else 'v1'}/dags/{quote(values['dag'], safe='')}/dagRuns"
    post(values["url"].rstrip("/") + path, json_bytes(body), read_bearer(values, context), context, done=(409,))


def send_to_prefect(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Create a flow run of a Prefect deployment; the event's id is its idempotency key."""
    body = {"parameters": {"event": event}, "idempotency_key": event["id"]}
    path = f"/deployments/{quote(values['deployment'], safe='')}/create_flow_run"
    post(values["url"].rstrip("/") + path, json_bytes(body), read_bearer(values, context), context)


def send_to_github(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Send a GitHub repository_dispatch event; its payload has one of the ten allowed top-level keys."""
    body = {"event_type": str(event["type"])[:100], "client_payload": {"event": event}}
    owner, name = values["repository"].split("/")
    url = values.get("url", DEFAULT_URLS["github"]).rstrip("/")
    headers = {**read_bearer(values, context), "accept": "application/vnd.github+json"}
    post(f"{url}/repos/{quote(owner, safe='')}/{quote(name, safe='')}/dispatches", json_bytes(body), headers, context)


def send_to_argo(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Call a webhook event source of Argo Events, whose body a sensor's triggers read."""
    post(values["url"], json_bytes(event), read_bearer(values, context), context)


def send_to_kubeflow(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Create a run of a Kubeflow pipeline (API v2beta1), which has no idempotency key: its name holds the
    event's id.
    """
    reference = {"pipeline_id": values["pipeline"]}
    if "version" in values:
        reference["pipeline_version_id"] = values["version"]
    body: dict[str, Any] = {
        "display_name": f"penstock-{event['id'][:32]}",
        "pipeline_version_reference": reference,
        "runtime_config": {"parameters": {"event": json.dumps(event)}},
    }
    if "experiment" in values:
        body["experiment_id"] = values["experiment"]
    post(values["url"].rstrip("/") + "/apis/v2beta1/runs", json_bytes(body), read_bearer(values, context), context)


def send_to_alertmanager(values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
    """Send one alert to Alertmanager's API v2, named by the event's type; the same labels are the same alert."""
    data = event["data"]
    labels = {"alertname": str(event["type"]), "model": str(data.get("model", "")), "rule": str(data.get("rule", ""))}
    labels |= {"version": str(data.get("version", "")), "event": str(event["id"])}
    alert = {"labels": labels, "annotations": {"evidence": json.dumps(data)[:8000]}, "startsAt": event["time"]}
    post(values["url"].rstrip("/") + "/api/v2/alerts", json_bytes([alert]), read_bearer(values, context), context)
