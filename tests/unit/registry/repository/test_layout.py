"""Which models are found in the layouts that people have, and what is said of what cannot be one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.versions import VersionPolicy, is_version, looks_alike
from penstock.registry.repository.layout import FoundModel, files_of, find_models, one_model
from penstock.registry.repository.local import LocalTree


def put(root: Path, *places: str, content: str = "graph") -> None:
    for place in places:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def scan(root: Path) -> dict[str, FoundModel]:
    return {model.name: model for model in find_models(LocalTree(root))}


def only(root: Path) -> FoundModel:
    (model,) = find_models(LocalTree(root))
    return model


def reasons(model: FoundModel) -> dict[str, str]:
    return {version: why.text for version, why in model.broken.items()}


def problem(model: FoundModel) -> str:
    return "" if model.problem is None else model.problem.text


def test_every_layout_beside_the_others(tmp_path: Path) -> None:
    put(tmp_path, "flat.onnx", "deep/1/model.onnx", "deep/10/model.onnx", "deep/2/model.onnx", "notes.txt", ".x.onnx")
    put(tmp_path, "single/model.onnx", "hub/onnx/model.onnx", "hub/config.json", ".git/1/model.onnx")
    found = scan(tmp_path)
    assert {name: dict(model.versions) for name, model in found.items()} == {
        "deep": {"1": "deep/1/model.onnx", "2": "deep/2/model.onnx", "10": "deep/10/model.onnx"},
        "flat": {"1": "flat.onnx"},
        "hub": {"1": "hub/onnx/model.onnx"},
        "single": {"1": "single/model.onnx"},
    }
    assert found["deep"].policy == VersionPolicy()
    assert (found["deep"].config, found["deep"].folder) == ("", "deep")
    assert not any(model.problem or model.broken or model.notes for model in found.values())


@pytest.mark.parametrize(
    ("files", "graph"),
    [
        (["m/1/resnet.onnx"], "m/1/resnet.onnx"),
        (["m/1/model.onnx", "m/1/model_fp16.onnx"], "m/1/model.onnx"),
        (["m/1/model_quantized.onnx", "m/1/readme.md"], "m/1/model_quantized.onnx"),
        (["m/1/model.onnx/model.onnx", "m/1/model.onnx/weights.bin"], "m/1/model.onnx/model.onnx"),
        (["m/1/model.onnx/resnet.onnx"], "m/1/model.onnx/resnet.onnx"),
        (["m/model.onnx", "m/onnx/model.onnx"], "m/model.onnx"),
        (["m/resnet.onnx"], "m/resnet.onnx"),
        (["m/onnx/model.onnx", "m/onnx/model_q4.onnx", "m/onnx/model.onnx_data"], "m/onnx/model.onnx"),
        (["m/1/model.onnx", "m/onnx/other.onnx"], "m/1/model.onnx"),
    ],
)
def test_which_graph_is_taken(tmp_path: Path, files: list[str], graph: str) -> None:
    put(tmp_path, *files)
    assert only(tmp_path).versions == {"1": graph}


@pytest.mark.parametrize(
    ("files", "said", "detail"),
    [
        (["m/1/a.onnx", "m/1/b.onnx"], "there are 2 graphs, and none is model.onnx", "a.onnx, b.onnx"),
        (["m/1/other.txt"], "the model file is missing", ""),
        (["m/1/model.onnx/weights.bin"], "the model file is missing", ""),
    ],
)
def test_a_version_without_its_graph_is_reported_and_the_others_serve(
    tmp_path: Path, files: list[str], said: str, detail: str
) -> None:
    put(tmp_path, *files, "m/2/model.onnx")
    model = only(tmp_path)
    assert set(model.versions) == {"2"}
    assert said in reasons(model)["1"]
    assert detail in model.broken["1"].full_text
    assert model.problem is None


def test_several_graphs_in_the_folder_of_a_model_are_reported(tmp_path: Path) -> None:
    put(tmp_path, "m/a.onnx", "m/b.onnx", "good.onnx")
    model = scan(tmp_path)["m"]
    assert problem(model) == "there are 2 graphs, and none is model.onnx; state default_model_filename"
    put(tmp_path, "m/config.pbtxt", content='default_model_filename: "b.onnx"')
    assert scan(tmp_path)["m"].versions == {"1": "m/b.onnx"}


def test_only_version_names_are_versions(tmp_path: Path) -> None:
    names = ["1", "0", "007", "1.4.0", "2026-11-20", "warmup", ".2"]
    others = ["champion", "v1", "-3", "V2"]
    put(tmp_path, *(f"m/{name}/model.onnx" for name in (*names, *others)))
    put(tmp_path, "m/4", "m/docs/readme.md")
    model = only(tmp_path)
    assert set(model.versions) == {"0", "1", "007", "1.4.0", "2026-11-20"}
    assert set(model.broken) == set(others)
    assert all("a version begins with a digit" in why for why in reasons(model).values())


def test_a_model_whose_only_version_has_a_wrong_name_says_the_rule(tmp_path: Path) -> None:
    put(tmp_path, "m/v1/model.onnx", "good.onnx")
    model = scan(tmp_path)["m"]
    assert "a version begins with a digit, as in 1 or 1.4.0" in problem(model)
    assert set(model.broken) == {"v1"}


@pytest.mark.parametrize(
    ("names", "served"),
    [
        (["01"], {"01"}),
        (["1", "01", "1."], {"1"}),
        (["01", "001"], {"01"}),
        (["1.0", "1.00", "1.0.0"], {"1.0", "1.0.0"}),
        (["2026-1-5", "2026-01-05"], {"2026-1-5"}),
        (["1.0-RC1", "1.0-rc1"], {"1.0-RC1"}),
        (["1", "10", "100", "1.0"], {"1", "10", "100", "1.0"}),
    ],
)
def test_of_versions_that_read_alike_one_is_served(tmp_path: Path, names: list[str], served: set[str]) -> None:
    put(tmp_path, *(f"m/{name}/model.onnx" for name in names))
    model = only(tmp_path)
    assert set(model.versions) == served
    assert all("looks like version" in why for why in reasons(model).values())
    assert {*model.versions, *model.broken} == set(names)


VERSIONS = st.text("0123456789.-+_aB", min_size=1, max_size=12).filter(is_version)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_reading_alike_holds_both_ways_and_on(one: str, two: str, three: str) -> None:
    assert looks_alike(one, one)
    assert looks_alike(one, two) == looks_alike(two, one)
    assert not (looks_alike(one, two) and looks_alike(two, three)) or looks_alike(one, three)
    assert looks_alike(f"0{one}", one)
    assert looks_alike(f"{one}.", one)


def test_an_empty_folder_is_reported_by_its_name(tmp_path: Path) -> None:
    put(tmp_path, "good.onnx", "papers/readme.md")
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "1").mkdir(parents=True)
    found = scan(tmp_path)
    assert problem(found["empty"]).startswith("the model has no version folder, such as 1, and no graph")
    assert problem(found["papers"]) == problem(found["empty"])
    assert reasons(found["hollow"]) == {"1": "the model file is missing"}


def test_a_graph_beside_version_folders_is_noted(tmp_path: Path) -> None:
    put(tmp_path, "m/1/model.onnx", "m/model.onnx")
    model = only(tmp_path)
    assert model.versions == {"1": "m/1/model.onnx"}
    assert model.notes == ("model.onnx lies beside version folders and is not served; move it into one",)


def test_the_configuration_decides(tmp_path: Path) -> None:
    put(tmp_path, "m/1/w.onnx", "m/3/w.onnx", "m/4/model.onnx")
    text = 'name: "m" default_model_filename: "w.onnx" version_policy { specific { versions: [ 1, 2, 4 ] } }'
    put(tmp_path, "m/config.pbtxt", content=text)
    model = only(tmp_path)
    assert set(model.versions) == {"1", "3"}
    assert model.policy.choose(model.versions) == ("1",)
    assert reasons(model) == {
        "2": "the configuration selects a version that does not exist",
        "4": "the model file is missing",
    }
    assert '"default_model_filename": "w.onnx"' in model.config


def test_the_files_that_a_configuration_names_are_known(tmp_path: Path) -> None:
    put(tmp_path, "m/1/model.onnx", "m/labels.txt", "m/warmup/x.bin", "m/pytorch_model.bin", "m/1/w.bin", "other.onnx")
    text = (
        'output { name: "y" data_type: TYPE_FP32 dims: 1 label_filename: "labels.txt" } '
        'model_warmup { name: "w" inputs { key: "x" value '
        '{ data_type: TYPE_FP32 dims: 1 input_data_file: "x.bin" } } }'
    )
    put(tmp_path, "m/config.pbtxt", content=text)
    tree = LocalTree(tmp_path)
    model = next(model for model in find_models(tree) if model.name == "m")
    assert model.files == ("labels.txt", "warmup/x.bin")
    paths = [path for path, _ in files_of(tree, model, "m/1/model.onnx", ())]
    assert paths == ["m/1/model.onnx", "m/1/w.bin", "m/labels.txt", "m/warmup/x.bin"]


def test_the_files_of_a_flat_model_are_its_own(tmp_path: Path) -> None:
    put(tmp_path, "a.onnx", "a.onnx.data", "w.bin", "b.onnx", "ab.onnx", "deep/w.bin", "x/1/model.onnx")
    tree = LocalTree(tmp_path)
    model = next(model for model in find_models(tree) if model.name == "a")
    assert [path for path, _ in files_of(tree, model, "a.onnx", ())] == ["a.onnx", "a.onnx.data"]
    tags = dict(files_of(tree, model, "a.onnx", ("w.bin", "deep/w.bin", "gone.bin")))
    assert sorted(tags) == ["a.onnx", "a.onnx.data", "deep/w.bin", "gone.bin", "w.bin"]
    assert tags["gone.bin"] == "" != tags["deep/w.bin"]


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
    assert said in problem(found["bad"])
    assert found["bad"].versions == {}
    assert found["bad"].broken == {"1": found["bad"].problem}
    assert found["good"].versions


def test_a_configuration_that_is_no_text(tmp_path: Path) -> None:
    put(tmp_path, "m/1/model.onnx")
    (tmp_path / "m/config.pbtxt").write_bytes(b"\xff\xfe\x00")
    assert problem(only(tmp_path)) == "the model configuration is not UTF-8 text"


def test_a_configuration_alone_is_a_model_without_versions(tmp_path: Path) -> None:
    put(tmp_path, "m/config.pbtxt", content="")
    assert problem(only(tmp_path)).startswith("the model has no version folder, such as 1")


def test_one_name_for_a_file_and_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "m.onnx", "m/1/model.onnx")
    model = only(tmp_path)
    assert "twice" in problem(model)
    assert not model.versions


def test_names_that_cannot_stand_in_an_address(tmp_path: Path) -> None:
    put(tmp_path, "a model.onnx", "-m/1/model.onnx", "\x1b[31m.onnx", "fine.onnx")
    found = scan(tmp_path)
    assert {name for name, model in found.items() if model.problem} == {"a model", "-m", "\ufffd[31m"}
    assert found["fine"].versions


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "foreign", "hollow"])
def test_a_root_that_serves_nothing(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    if kind == "file":
        root.write_text("")
    if kind in ("empty", "foreign", "hollow"):
        root.mkdir()
    if kind == "foreign":
        put(root, "papers/readme.md", "model.pt")
    if kind == "hollow":
        (root / "m").mkdir()
    with pytest.raises(InvalidInput, match=r"^the model folder (does not|is not|holds no)") as caught:
        scan(root)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "versions"),
    [
        (["model.onnx"], {"1": "model.onnx"}),
        (["resnet.onnx", "resnet.onnx.data"], {"1": "resnet.onnx"}),
        (["1/model.onnx", "2/model.onnx"], {"1": "1/model.onnx", "2": "2/model.onnx"}),
        (["onnx/model.onnx"], {"1": "onnx/model.onnx"}),
    ],
)
def test_a_folder_that_is_one_model(tmp_path: Path, files: list[str], versions: dict[str, str]) -> None:
    put(tmp_path, *files)
    assert one_model(LocalTree(tmp_path, one_model=True), "m").versions == versions
    put(tmp_path, "config.pbtxt", content='name: "m" max_batch_size: 3')
    assert '"max_batch_size": 3' in one_model(LocalTree(tmp_path, one_model=True), "m").config


def test_a_file_that_is_one_model(tmp_path: Path) -> None:
    put(tmp_path, "a.onnx", "b.onnx", "a.onnx.data")
    tree = LocalTree(tmp_path, one_model=True)
    model = one_model(tree, "m", "a.onnx")
    assert model.versions == {"1": "a.onnx"}
    assert [path for path, _ in files_of(tree, model, "a.onnx", ())] == ["a.onnx", "a.onnx.data"]


@pytest.mark.parametrize(
    ("name", "files"), [("m", []), ("m", ["readme.md"]), ("m n", ["model.onnx"]), ("", ["x.onnx"])]
)
def test_a_folder_without_a_model_is_skipped(tmp_path: Path, name: str, files: list[str]) -> None:
    put(tmp_path, *files)
    with pytest.raises(InvalidInput):
        one_model(LocalTree(tmp_path, one_model=True), name)
