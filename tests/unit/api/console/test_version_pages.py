"""The pages of models and versions: what the server renders of them, for people without a script."""

import html
import re
from typing import Any

import pytest

from penstock.api.console.version_facts import (
    admission_facts,
    compare_facts,
    flat_metadata,
    format_bytes,
    format_milliseconds,
    lineage_of,
    shape_text,
    sharing_text,
)
from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import MemoryRegistrar

BROWSER = {"accept": "text/html"}
HOSTILE = '"><script>alert(1)</script>'
REPORT = {
    "verdict": "admitted",
    "reason": "",
    "p50_us": 40,
    "memory_bytes": 3 << 20,
    "ops": {f"Op{number}": 1 for number in range(10)},
    "runtime": "onnxruntime 1.25",
    "independent_rows": {"proven": False, "reason": "it mixes rows", "operator": "Softmax", "node": "n1"},
}


def version(name: str, **changes: Any) -> dict[str, Any]:
    signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}], "outputs": []}
    stated = {"version": name, "state": "READY", "reason": "", "digest": "sha256:" + name * 64, "size": 2048}
    stated |= {"created_at": "2026-11-30T10:00:00", "created_by": "ann", "signature": signature, "metadata": {}}
    return {**stated, "card": None, "admission": REPORT, **changes}


@pytest.fixture
def models(registry_admin: MemoryRegistrar) -> MemoryRegistrar:
    registry_admin.revisions["digits"] = 2
    first = version("1", metadata={"metrics": {"accuracy": 0.9}})
    second = version("2", metadata={"metrics": {"accuracy": 0.95}, "parent": "1"}, card={"summary": HOSTILE})
    registry_admin.versions |= {("digits", "1"): first, ("digits", "2"): second}
    registry_admin.aliases["digits", "champion"] = "1"
    return registry_admin


def read(client: Client, path: str) -> str:
    """The text of a page, without its tags."""
    answer = client.get(f"/console/models/digits{path}", BROWSER)
    assert answer.status_code == 200, answer.text
    assert "<script>alert" not in answer.text
    return html.unescape(re.sub(r"<[^>]*>", " ", answer.text))


def test_a_model_shows_its_versions_aliases_and_settings(client: Client, models: MemoryRegistrar) -> None:
    text = read(client, "")
    for shown in ("READY", "40 µs", "3 MiB", "2 KiB", "champion", "2026-11-30T10:00:00 by ann", "Compare versions"):
        assert shown in text


def test_a_version_shows_its_report_lineage_and_signature(client: Client, models: MemoryRegistrar) -> None:
    text = read(client, "/versions/2")
    for shown in ("admitted", "it mixes rows (at Softmax n1)", "parents", "metrics.accuracy", "[rows, 3]", HOSTILE):
        assert shown in text
    assert client.get("/console/models/digits/versions/9", BROWSER).status_code == 404


def test_two_versions_stand_side_by_side(client: Client, models: MemoryRegistrar) -> None:
    for query in ("", "?a=1&b=2"):
        text = read(client, f"/compare{query}")
        assert re.search(r"metrics\.accuracy\s+0\.9\s+0\.95\s+differs", text)
    assert client.get("/console/models/digits/compare?a=9", BROWSER).status_code == 404


def test_a_prediction_without_a_script_is_a_command(client: Client, models: MemoryRegistrar) -> None:
    assert "curl http://127.0.0.1:1/v2/models/digits/infer --data @request.json" in read(client, "/try")
    assert "[rows, 3]" in read(client, "/try?version=champion")
    assert "No version is loaded" in read(client, "/try?version=9")


def test_an_admission_report_is_names_with_values() -> None:
    facts = dict(admission_facts(version("1")))
    assert facts["verdict"] == "admitted"
    assert facts["operators"].endswith("Op7 x 1, 2 more")
    assert admission_facts(version("1", admission=None)) == []
    refused = version("1", admission={"verdict": "refused", "reason": "no graph"})
    assert admission_facts(refused)[0] == ("verdict", "refused: no graph")


def test_what_the_workers_do_counts_before_what_the_graph_proves() -> None:
    assert sharing_text(version("1", batching="requests share runs: so")) == "requests share runs: so"
    assert sharing_text(version("1", admission={"independent_rows": {"proven": True}})).startswith("the graph proves")
    assert sharing_text(version("1", admission={})) == ""


def test_lineage_ends_where_it_is_unknown_or_goes_in_a_circle() -> None:
    versions = [version("1", metadata={"parent": "2"}), version("2", metadata={"parent": "1"})]
    assert lineage_of(versions, "1") == ["2"]
    assert lineage_of([version("3", metadata={"parent": "0"})], "3") == ["0"]


def test_amounts_and_shapes_are_formatted_for_people() -> None:
    assert [format_bytes(value) for value in (0, 1536, 2**50, None, True)] == [
        "0 B",
        "1.5 KiB",
        "1.02e+03 TiB",
        "-",
        "-",
    ]
    assert (format_milliseconds(1.2345), format_milliseconds(None)) == ("1.23 ms", "-")
    assert shape_text([-1, 3, -1]) == "[rows, 3, any]"
    assert list(flat_metadata({"owners": ["a", "b"], "tags": {"x": 1}})) == [("owners", "a, b"), ("tags.x", "1")]
    assert compare_facts([("a", "1")], [("a", "1"), ("b", "2")]) == [("a", "1", "1", "same"), ("b", "", "2", "differs")]
