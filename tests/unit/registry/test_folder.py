from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.versions import VersionPolicy
from penstock.registry.folder import FolderSource, FoundModel, _names_version


def put(root: Path, *places: str, content: str = "graph") -> None:
    for place in places:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def scan(root: Path) -> dict[str, FoundModel]:
    return {model.name: model for model in FolderSource(root).scan()}


def only(root: Path) -> FoundModel:
    (model,) = FolderSource(root).scan()
    return model


def test_both_layouts_beside_each_other(tmp_path: Path) -> None:
    put(tmp_path, "flat.onnx", "deep/1/model.onnx", "deep/10/model.onnx", "deep/2/model.onnx", "notes.txt", ".x.onnx")
    put(tmp_path, "papers/readme.md", ".git/1/model.onnx")
    found = scan(tmp_path)
    assert list(found) == ["deep", "flat"]
    assert found["flat"].versions == {"1": tmp_path / "flat.onnx"}
    assert set(found["deep"].versions) == {"1", "2", "10"}
    assert found["deep"].versions["2"] == tmp_path / "deep/2/model.onnx"
    assert found["deep"].policy == VersionPolicy()
    assert found["deep"].config == ""
    assert found["deep"].folder == tmp_path / "deep"
    assert not any(model.problem or model.broken for model in found.values())


def test_only_version_names_are_versions(tmp_path: Path) -> None:
    names = ["1", "0", "007", "1.4.0", "2026-11-20", "champion", "configs", "warmup", ".2", "-3"]
    put(tmp_path, *(f"m/{name}/model.onnx" for name in names))
    put(tmp_path, "m/4")
    assert set(only(tmp_path).versions) == {"1", "0", "1.4.0", "2026-11-20"}


@given(st.text(max_size=70))
def test_a_version_folder_begins_with_a_digit(name: str) -> None:
    if _names_version(name):
        assert name[0] in "0123456789"
        assert name == "0" or not name.isdecimal() or name == str(int(name))


def test_a_version_without_a_graph_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    put(tmp_path, "m/1/model.onnx", "m/2/other.txt")
    model = only(tmp_path)
    assert set(model.versions) == {"1"}
    assert model.broken == {"2": "the model file is missing"}
    assert model.problem == ""


def test_a_folder_may_hold_the_graph_beside_its_weights(tmp_path: Path) -> None:
    put(tmp_path, "m/1/model.onnx/model.onnx", "m/1/model.onnx/weights.bin", "m/2/model.onnx/weights.bin")
    model = only(tmp_path)
    assert model.versions == {"1": tmp_path / "m/1/model.onnx/model.onnx"}
    assert set(model.broken) == {"2"}


def test_the_configuration_decides(tmp_path: Path) -> None:
    put(tmp_path, "m/1/w.onnx", "m/3/w.onnx", "m/4/model.onnx")
    text = 'name: "m" default_model_filename: "w.onnx" version_policy { specific { versions: [ 1, 2, 4 ] } }'
    put(tmp_path, "m/config.pbtxt", content=text)
    model = only(tmp_path)
    assert set(model.versions) == {"1", "3"}
    assert model.policy.choose(model.versions) == ("1",)
    assert model.broken == {
        "2": "the configuration asks for a version that is not there",
        "4": "the model file is missing",
    }
    assert '"default_model_filename": "w.onnx"' in model.config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_batch_sise: 1", "max_batch_sise"),
        ('name: "other"', "for the model 'other'"),
        ('platform: "pytorch_libtorch"', "pytorch_libtorch"),
        ('output { name: "y" data_type: TYPE_FP32 dims: 1 label_filename: "../x" }', "inside the model's folder"),
    ],
)
def test_a_bad_configuration_stops_its_model_only(tmp_path: Path, text: str, said: str) -> None:
    put(tmp_path, "bad/1/model.onnx", "good.onnx")
    put(tmp_path, "bad/config.pbtxt", content=text)
    found = scan(tmp_path)
    assert said in found["bad"].problem
    assert found["bad"].versions == {}
    assert found["bad"].broken == {"1": found["bad"].problem}
    assert found["good"].versions


def test_a_configuration_that_is_no_text(tmp_path: Path) -> None:
    put(tmp_path, "m/1/model.onnx")
    (tmp_path / "m/config.pbtxt").write_bytes(b"\xff\xfe\x00")
    assert only(tmp_path).problem == "the model configuration is not UTF-8 text"


def test_a_configuration_alone_is_a_model_without_versions(tmp_path: Path) -> None:
    put(tmp_path, "m/config.pbtxt", content="")
    assert only(tmp_path).problem == "the model has no version folder, such as 1"


def test_one_name_for_a_file_and_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "m.onnx", "m/1/model.onnx")
    model = only(tmp_path)
    assert "twice" in model.problem
    assert not model.versions


def test_names_that_cannot_stand_in_an_address(tmp_path: Path) -> None:
    put(tmp_path, "a model.onnx", "-m/1/model.onnx", "fine.onnx")
    found = scan(tmp_path)
    assert {name for name, model in found.items() if model.problem} == {"a model", "-m"}
    assert found["fine"].versions


def test_links_may_not_lead_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    outside.write_text("graph")
    root = tmp_path / "models"
    put(root, "m/1/model.onnx", "near/2/model.onnx")
    (root / "m/2").mkdir()
    (root / "m/2/model.onnx").symlink_to(outside)
    (root / "m/3").symlink_to(root / "near/2")
    (root / "out.onnx").symlink_to(outside)
    (root / "gone.onnx").symlink_to(root / "nowhere")
    found = scan(root)
    assert set(found) == {"m", "near", "out"}
    assert set(found["m"].versions) == {"1", "3"}
    assert found["m"].broken == {"2": "the model file lies outside the model's folder"}
    assert set(found["out"].broken) == {"1"}


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "foreign"])
def test_a_root_that_serves_nothing(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    if kind == "file":
        root.write_text("")
    if kind in ("empty", "foreign"):
        root.mkdir()
    if kind == "foreign":
        put(root, "papers/readme.md", "model.pt")
    with pytest.raises(InvalidInput, match=r"^the model folder (does not|is not|holds no)") as caught:
        FolderSource(root).scan()
    assert str(tmp_path) not in str(caught.value)
