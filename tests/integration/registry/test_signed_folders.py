"""Signed models in a watched folder: a bundle beside the graph, in the folder of the model, or beside a single file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.registry.signing.signer import bundle_path, sign_path
from tests import harness
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.registry.test_gateway import ask, graph
from tests.integration.registry.test_signatures import CI, FOREIGN, ask_state, settings

CONFIG = b"max_batch_size: 4\n"


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def sign(path: Path, key: Any = CI) -> None:
    target = bundle_path(path)
    target.write_text(sign_path(path, key, target))


def state(server: Server, model: str, version: str = "1") -> dict[str, Any]:
    found: dict[str, Any] = ask_state(server, model)[version]
    return found


def test_only_signed_models_of_a_folder_are_served(tmp_path: Path) -> None:
    models = tmp_path / "models"
    sign(put(models / "beside", {"1/model.onnx": graph(1)}) / "1")
    sign(put(models / "whole", {"1/model.onnx": graph(1), "2/model.onnx": graph(2), "config.pbtxt": CONFIG}))
    sign(put(models, {"alone.onnx": graph(1)}) / "alone.onnx")
    put(models / "unsigned", {"1/model.onnx": graph(1)})
    sign(put(models / "foreign", {"1/model.onnx": graph(1)}) / "1", FOREIGN)
    sign(put(models / "uncovered", {"1/model.onnx": graph(1), "config.pbtxt": b"max_batch_size: 4"}) / "1")
    sign(put(models / "exchanged", {"1/model.onnx": graph(1)}) / "1")
    put(models / "exchanged", {"1/model.onnx": graph(2)})
    fast = {"PENSTOCK_WATCH__SECONDS": "0.2", "PENSTOCK_WATCH__SETTLE_SECONDS": "0.4"}
    with harness.running(models, tmp_path, env={**settings(tmp_path / "keys"), **fast}) as server:
        for model in ("beside", "whole", "alone"):
            assert state(server, model)["state"] == "READY", state(server, model)
            assert ask(server, model).status == 200
        reasons = {
            "unsigned": "it has no signature of a trusted signer",
            "foreign": "not signed by a trusted signer",
            "uncovered": "1 file is not signed",
            "exchanged": "the graph is not the signed one",
        }
        for model, reason in reasons.items():
            shown = state(server, model)
            assert (shown["state"], reason in shown["reason"]) == ("UNAVAILABLE", True), shown
        sign(models / "unsigned" / "1")
        wait_until(lambda: state(server, "unsigned")["state"] == "READY", PATIENCE_S, "the signed version")
        put(models / "beside", {"1/model.onnx": graph(3)})
        wait_until(lambda: "not the signed one" in state(server, "beside")["reason"], PATIENCE_S, "the refusal")
        assert ask(server, "beside").json()["outputs"][0]["data"] == [1.0] * 3  # the signed content goes on
