"""`penstock explain`: which version and rows it asks for, and what it says of the answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.client import Document, InferReply, RestClient
from penstock.core.frames.terms import RowTerms, encode_terms

METADATA: Document = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "properties": {"rows": encode_terms(RowTerms(("age", "income"), {"income": 5}))},
}
PARAMETERS = {
    "method": "linear",
    "exact": True,
    "scale": "value",
    "output": "y",
    "background": "live of version 1",
    "background_rows": 40,
}
ANSWER: Document = {
    "model_name": "m",
    "model_version": "2",
    "parameters": PARAMETERS,
    "outputs": [
        {"name": "attributions", "shape": [1, 2], "data": [1.5, -0.5]},
        {"name": "base_value", "shape": [1], "data": [0.0]},
        {"name": "prediction", "shape": [1, 1], "data": [1.0]},
        {"name": "error", "shape": [1, 2], "data": [0.0, 0.0]},
        {"name": "features", "shape": [2], "data": ["age", "income"]},
    ],
}
Asked = list[tuple[str, str, Document]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What a gateway is asked to explain, which answers without a network."""
    requests: Asked = []

    class Rest(RestClient):
        def metadata(self, model: str, version: str) -> Document:
            return METADATA

        def explain(self, model: str, version: str, request: Document) -> InferReply:
            requests.append((model, version, request))
            return InferReply(ANSWER, "2", "stable")

    monkeypatch.setattr("penstock.cli.explain.RestClient", Rest)
    return requests


@pytest.mark.parametrize(
    ("words", "version"),
    [
        (["m:2"], "2"),
        (["m@canary"], "canary"),
        (["m:@canary"], "canary"),
        (["m", "--version", "2"], "2"),
        (["m", "--version", "@canary"], "canary"),
        (["m"], ""),
    ],
)
def test_a_version_is_stated_as_for_scoring(
    penstock: Callable[..., Any], tmp_path: Path, asked: Asked, words: list[str], version: str
) -> None:
    (tmp_path / "rows.csv").write_text("income,age\n,1\n")
    result = penstock("explain", *words, "--against", "@champion", "--rows", str(tmp_path / "rows.csv"))
    assert result.code == 0, result
    [(model, chosen, request)] = asked
    assert (model, chosen, request["parameters"]["against"]) == ("m", version, "champion")
    assert request["inputs"][0]["data"] == [1.0, 5.0], "by the names and defaults that the gateway states"
    assert "'income' is missing in 1 rows" in result.err
    assert "compared with 40 live rows of version 1" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m:", "--data", "[]"], "expected NAME, NAME:V or NAME@ALIAS"),
        (["m:1", "--version", "2", "--data", "[]"], "not both"),
    ],
)
def test_a_version_is_stated_once(penstock: Callable[..., Any], words: list[str], message: str) -> None:
    result = penstock("explain", *words)
    assert result.code == 2
    assert message in result.err
