"""Predictions by hand in a browser: forms from signatures, pasted rows, images, and what the answer shows."""

import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper
from playwright.sync_api import Locator, expect

from tests import harness, zoo
from tests.browser import GuardedPage, OpenPage, needs_chromium
from tests.harness import Server, wait_until

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with models of several signatures."""
    folder = tmp_path_factory.mktemp("try")
    models = folder / "models"
    zoo.place(models, "digits", {"1": zoo.versioned(1), "2": zoo.versioned(2)})
    zoo.place(models, "picture", {"1": zoo.affine(2.0, 0.0, ("n", 3, 8, 8))})
    zoo.place(models, "mixed", {"1": zoo.mixed()})
    zoo.place(models, "named", {version: labelled(int(version)) for version in ("1", "2")})
    zoo.place(models, "wide", {"1": zoo.affine(2.0, 0.0, ("n", 100))})
    with harness.running(models, folder, "--workers", "1") as server:
        yield server


def labelled(version: int) -> onnx.ModelProto:
    """A model whose graph names its features."""
    graph = zoo.versioned(version)
    helper.set_model_props(graph, {"feature_names": json.dumps(["age", "income", "debt"])})
    return graph


def give_background(server: Server, model: str) -> None:
    """Ask both versions once, and wait until the row is what explanations compare with."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0]}
    paths = [f"/v2/models/{model}/versions/{version}" for version in ("1", "2")]
    assert {server.rest("POST", f"{path}/infer", {"inputs": [tensor]}).status for path in paths} == {200}

    def is_there() -> bool:
        return {server.rest("POST", f"{path}/explain", {"inputs": [tensor]}).status for path in paths} == {200}

    wait_until(is_there, harness.PATIENCE_S, "live rows")


def opened(open_page: OpenPage, server: Server, model: str, **options: Any) -> tuple[GuardedPage, Locator]:
    """The page for predictions of a model, once its form is there."""
    page = open_page(server, **options)
    page.open(f"/console/models/{model}/try")
    app = page.page.locator("#app")
    app.get_by_role("button", name="Predict", exact=True).wait_for()
    return page, app


def predict(page: GuardedPage, app: Locator) -> str:
    """Ask, and return the text of the outputs."""
    app.get_by_role("button", name="Predict", exact=True).click()
    page.wait_for("document.querySelector('#app [aria-label=Outputs]')", "the answer")
    return app.get_by_role("region", name="Outputs").inner_text()


def test_a_form_made_from_the_signature_is_answered(open_page: OpenPage, server: Server) -> None:
    page, app = opened(open_page, server, "digits", size=(360, 800))
    for label, text in (("0", "1"), ("1", "2.5"), ("2", "x")):
        app.get_by_label(label, exact=True).fill(text)
    page.wait_for_text("'x' is not a number")
    expect(app.get_by_role("button", name="Predict", exact=True)).to_be_disabled()
    app.get_by_label("2", exact=True).fill("3")
    assert "4 7 8" in predict(page, app)
    for shown in ("stable", "decode", "queue", "run", "encode", "in the worker"):
        expect(app).to_contain_text(shown)
    assert page.overflow() == 0
    page.check_accessible("an answer")


def test_an_answer_is_explained_and_why_another_version_differs(open_page: OpenPage, server: Server) -> None:
    give_background(server, "named")
    page, app = opened(open_page, server, "named", size=(360, 800))
    app.get_by_label("income", exact=True).fill("2.5")
    predict(page, app)
    app.get_by_role("button", name="Explain", exact=True).click()
    page.wait_for_text("enumeration, exact")
    for shown in ("base value", "live rows", re.compile(r"\bscale\b")):
        expect(app).to_contain_text(shown, use_inner_text=True)
    app.get_by_label("Column, from 0").select_option("1")
    first = app.get_by_role("region", name="Explain: what each feature adds").locator("tbody tr").first
    expect(first).to_contain_text("income")  # the column's own feature
    expect(first).to_contain_text("+")  # the row may be in the background already, so the number is not known
    assert page.overflow() == 0
    page.check_accessible("an explanation")
    app.get_by_label("Why it differs from version").select_option("1")
    page.wait_for_text("2 minus 1")
    app.get_by_text("Explain a past request").click()
    app.get_by_label("Id of a captured request").fill("no-such-id")
    page.expect(404)
    app.get_by_role("button", name="Explain the request").click()
    page.wait_for_text("no request with this id is captured")


def test_a_version_is_asked_by_its_name(open_page: OpenPage, server: Server) -> None:
    page, app = opened(open_page, server, "digits")
    app.get_by_label("Version").select_option("1")
    page.wait_for("new URL(location).searchParams.get('version') === '1'", "the choice in the query")
    assert "1 1 1" in predict(page, app)
    expect(app).to_contain_text("pinned")
    expect(app.get_by_label("The request by curl")).to_contain_text("/versions/1/infer")


def test_rows_are_pasted_as_csv_and_json(open_page: OpenPage, server: Server) -> None:
    page, app = opened(open_page, server, "digits")
    app.get_by_role("button", name="CSV").click()
    app.get_by_label("Rows as CSV").fill("a,b,c\n1,2,3\n4,5,6")
    assert "10 12 14" in predict(page, app)
    app.get_by_role("button", name="JSON").click()
    app.get_by_label("A V2 request").fill("[[0, 0, 0, 0]]")
    page.wait_for_text("got the shape [1, 4]; expected 'x' FP32 [rows, 3]")
    app.get_by_label("A V2 request").fill('{"x": [[0, 0, 0]]}')
    page.wait_for("!document.querySelector('#app form [role=alert]')", "values that fit")
    app.get_by_role("button", name="tritonclient").click()
    expect(app.get_by_label("The request by tritonclient")).to_contain_text("np.array([0, 0, 0], dtype=np.float32)")


def test_several_inputs_have_a_group_of_boxes_each(open_page: OpenPage, server: Server) -> None:
    page, app = opened(open_page, server, "mixed")
    expect(app.get_by_role("group", name="key")).to_have_count(1)
    assert predict(page, app)


def test_a_long_row_is_pasted(open_page: OpenPage, server: Server) -> None:
    _, app = opened(open_page, server, "wide")
    expect(app.get_by_role("button", name="Form")).to_have_count(0)
    expect(app.get_by_role("button", name="Predict", exact=True)).to_be_disabled()


def test_an_image_becomes_a_tensor(open_page: OpenPage, server: Server, tmp_path: Path) -> None:
    page, app = opened(open_page, server, "picture")
    (tmp_path / "red.png").write_bytes(red_image(20))
    app.get_by_label("Image", exact=True).set_input_files(tmp_path / "red.png")
    page.wait_for_text("red.png as x [1, 3, 8, 8]")
    assert predict(page, app).count(" 2") > 60  # the first channel is red, and the model doubles it
    page.check_accessible("an image")


def test_fields_of_rules_are_asked_for(open_page: OpenPage, server: Server) -> None:
    path = "/admin/v1/models/digits/route"
    rule = {"header": "x-canary", "equals": "always", "version": "1"}
    assert server.admin("PUT", path, {"split": {"2": 10_000}, "rules": [rule]}).status == 200
    page, app = opened(open_page, server, "digits")
    app.get_by_label("x-canary").fill("always")
    assert "0 0 0" not in predict(page, app)
    expect(app).to_contain_text("rule")
    assert server.admin("DELETE", path).status == 200


def test_without_a_script_the_page_has_a_command(open_page: OpenPage, server: Server) -> None:
    page = open_page(server, script=False)
    assert f"curl http://{server.http}/v2/models/digits/infer" in page.open("/console/models/digits/try").inner_text(
        "main"
    )


def red_image(size: int) -> bytes:
    """A red square as PNG (RFC 2083)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes([255, 0, 0]) * size) * size
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
