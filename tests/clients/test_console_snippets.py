"""What the console offers for other clients runs as it stands: curl, tritonclient and `penstock predict`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.api.console.assets import FOLDER
from tests import harness, zoo
from tests.certificates import make_certificate
from tests.harness import PATIENCE_S, Server

WRITE = """
import { readFileSync } from "node:fs";
import * as snippets from "./static/predict/snippets.js";
import { requestText } from "./static/predict/request.js";
const question = JSON.parse(readFileSync(0, "utf8"));
const curl = snippets.curlCommand(question);
const texts = { curl, triton: snippets.tritonProgram(question), predict: snippets.predictCommand(question) };
console.log(JSON.stringify({ ...texts, request: requestText(question.request), long: snippets.needsFile(question) }));
"""


class Console:
    """What the console writes of a gateway, in a folder with its modules."""

    def __init__(self, server: Server, folder: Path, files: Mapping[str, str]) -> None:
        self.server = server
        self.folder = folder
        self.environment = {**os.environ, **files, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def write(self, model: str, data: list[float], version: str = "", **fields: str) -> dict[str, Any]:
        """The texts for a request of one row."""
        gateway = self.server.as_owner("GET", "/admin/v1/gateway").json()
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(data)], "data": data}
        question = {"gateway": gateway, "model": model, "version": version, "fields": fields}
        stated = json.dumps({**question, "request": {"inputs": [tensor]}})
        command = ["node", "--input-type=module", "-e", WRITE]
        out = subprocess.run(command, input=stated, cwd=self.folder, capture_output=True, text=True, check=True).stdout
        texts: dict[str, Any] = json.loads(out)
        (self.folder / "request.json").write_text(texts["request"])
        return texts

    def run(self, *command: str) -> str:
        """The output of a program in the folder."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def answers(self, texts: Mapping[str, str]) -> list[str]:
        """What each of the three says, in the order curl, tritonclient, penstock predict."""
        curl = self.run("bash", "-c", f"{texts['curl']} --silent --show-error")
        return [curl, self.run(sys.executable, "-c", texts["triton"]), self.run("bash", "-c", texts["predict"])]


def prepare(folder: Path) -> Path:
    shutil.copytree(FOLDER, folder / "static")
    (folder / "package.json").write_text(json.dumps({"type": "module"}))
    models = folder / "models"
    zoo.place(models, "m", {"1": zoo.versioned(1), "2": zoo.versioned(2)})
    zoo.place(models, "wide", {"1": zoo.affine(2.0, 0.0, ("n", 1000))})
    return models


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("plain")
    with harness.running(prepare(folder), folder / "server", "--workers", "1") as server:
        yield Console(server, folder, {})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The same with TLS and API keys."""
    folder = tmp_path_factory.mktemp("guarded")
    pair = make_certificate(folder)
    env = {
        "PENSTOCK_AUTH__KEYS": "true",
        "PENSTOCK_TLS__CERTIFICATE_FILE": str(pair.certificate),
        "PENSTOCK_TLS__KEY_FILE": str(pair.key),
    }
    with harness.running(prepare(folder), folder / "server", "--workers", "1", env=env) as server:
        key = server.as_owner("POST", "/admin/v1/keys", {"name": "app", "roles": ["caller"]}).json()["key"]
        (folder / "key").write_text(f"{key}\n")
        files = {"PENSTOCK_TOKEN_FILE": str(folder / "key"), "PENSTOCK_CA_FILE": str(pair.certificate)}
        yield Console(server, folder, files)


def assert_answered(answers: list[str], version: str, *values: str) -> None:
    curl, triton, predict = answers
    document = json.loads(curl)
    assert document["model_version"] == version
    assert document["outputs"][0]["data"] == [float(value) for value in values]
    for value in values:
        assert value in triton and value in predict
    assert f"version {version}" in predict


def test_each_gets_the_same_answer(plain: Console) -> None:
    assert_answered(plain.answers(plain.write("m", [1, 2, 3])), "2", "4", "6", "8")


def test_each_asks_a_version(plain: Console) -> None:
    assert_answered(plain.answers(plain.write("m", [1, 2, 3], "1")), "1", "2", "3", "4")


def test_fields_decide_as_they_do_for_the_page(plain: Console) -> None:
    route = {"split": {"2": 10_000}, "rules": [{"header": "x-canary", "equals": "it's so", "version": "1"}]}
    assert plain.server.admin("PUT", "/admin/v1/models/m/route", route).status == 200
    texts = plain.write("m", [1, 2, 3], **{"x-canary": "it's so"})
    assert json.loads(plain.run("bash", "-c", f"{texts['curl']} --silent"))["model_version"] == "1"
    assert "[[2. 3. 4.]]" in plain.run(sys.executable, "-c", texts["triton"])
    assert "version 2" in plain.run("bash", "-c", texts["predict"])  # it has a note that says so
    assert plain.server.admin("DELETE", "/admin/v1/models/m/route").status == 200


def test_a_long_request_is_read_from_its_file(plain: Console) -> None:
    texts = plain.write("wide", [float(number) for number in range(1000)])
    assert texts["long"] is True
    curl, triton, predict = plain.answers(texts)
    assert json.loads(curl)["outputs"][0]["data"][-1] == 1998.0
    assert "1998" in triton and "1998" in predict


def test_each_runs_with_a_credential_over_tls(guarded: Console) -> None:
    assert_answered(guarded.answers(guarded.write("m", [1, 2, 3], "2")), "2", "4", "6", "8")
