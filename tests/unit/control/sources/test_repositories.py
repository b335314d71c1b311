"""Several repositories: one that is away keeps what it had, is told of once, and stops none of the others."""

import logging
import shutil
from pathlib import Path

import pytest

from penstock.control.sources.repositories import (
    Repositories,
    RepositoryState,
    RequestedModels,
    SourceRepository,
    readings,
)
from penstock.core.errors import InvalidInput
from penstock.registry.repository.local import LocalTree


def put(root: Path, *models: str) -> Path:
    for model in models:
        (root / model / "1").mkdir(parents=True)
        (root / model / "1" / "model.onnx").write_bytes(b"graph")
    return root


def names(repositories: Repositories) -> list[tuple[list[str], bool]]:
    return [([model.name for model in repository.models], repository.read) for repository in repositories.read()]


def test_one_that_is_away_keeps_its_models_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = put(tmp_path / "first", "a"), put(tmp_path / "second", "b")
    repositories = Repositories([SourceRepository(LocalTree(first)), SourceRepository(LocalTree(second))])
    assert not repositories.ever_read
    assert [state.reason for state in repositories.states] == ["it has not been read yet"] * 2
    assert names(repositories) == [(["a"], True), (["b"], True)]
    assert repositories.ever_read
    shutil.rmtree(first)
    put(second, "c")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert names(repositories) == [(["a"], False), (["b", "c"], True)]
    assert len(caplog.records) == 1
    assert list(repositories.faults) == [repositories.states[0].name]
    assert [(state.models, bool(state.reason)) for state in repositories.states] == [(1, True), (2, False)]
    assert [reading.value for reading in readings(repositories.states)] == [False, True]
    put(tmp_path / "first", "a")
    assert names(repositories) == [(["a"], True), (["b", "c"], True)]
    assert not repositories.faults


def test_where_none_can_be_read_the_first_reason_is_raised(tmp_path: Path) -> None:
    repositories = Repositories(
        [SourceRepository(LocalTree(tmp_path / "nowhere")), SourceRepository(LocalTree(tmp_path / "no"))]
    )
    with pytest.raises(InvalidInput):
        repositories.read()
    assert not repositories.ever_read
    assert [type(state) for state in repositories.states] == [RepositoryState] * 2
    assert all(state.reason for state in repositories.states)


def test_a_repository_may_be_one_model(tmp_path: Path) -> None:
    put(tmp_path, "a")
    (holding,) = Repositories([SourceRepository(LocalTree(tmp_path / "a", one_model=True), "name")]).read()
    assert [(model.name, dict(model.versions)) for model in holding.models] == [("name", {"1": "1/model.onnx"})]


def test_only_requested_models_are_offered_until_their_folders_are_gone(tmp_path: Path) -> None:
    root = tmp_path / "models"
    repositories = Repositories([SourceRepository(LocalTree(root), requested=RequestedModels())])
    assert names(repositories) == [([], True)]  # it may not exist before the first model
    for name in ("a", "b"):
        put(root / name, "model")
    repositories.request("a")
    repositories.request("absent")
    assert names(repositories) == [(["a"], True)]
    assert not repositories.faults
    (model,) = repositories.read()[0].models
    assert dict(model.versions) == {"1": "a/model/1/model.onnx"}
    shutil.rmtree(root / "a")
    assert names(repositories) == [([], True)]
    put(root / "a", "model")
    assert names(repositories) == [([], True)]


@pytest.mark.parametrize("text", ["..", "../a", "/etc", "a/../b", "", "a/b", ".hidden", "x" * 129])
def test_folders_without_a_model_name_are_never_read(text: str, tmp_path: Path) -> None:
    put(tmp_path / "b", "model")
    requested = RequestedModels()
    requested.add(text)
    assert requested.read(LocalTree(tmp_path)) == []


@pytest.mark.parametrize(
    ("files", "graph"),
    [
        (("model.onnx",), "m/model/model.onnx"),
        (("resnet.onnx",), "m/model/resnet.onnx"),
        (("1/model.onnx",), "m/model/1/model.onnx"),
        (("resnet/1/model.onnx", "resnet/config.pbtxt"), "m/model/resnet/1/model.onnx"),
        (("a/model.onnx", "b/model.onnx"), None),
        (("notes.txt",), None),
    ],
)
def test_an_unpacked_archive_is_one_model(files: tuple[str, ...], graph: str | None, tmp_path: Path) -> None:
    for file in files:
        path = tmp_path / "m" / "model" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('name: "resnet"' if file.endswith("pbtxt") else "graph")
    requested = RequestedModels()
    requested.add("m")
    (model,) = requested.read(LocalTree(tmp_path))
    assert model.name == "m"
    assert list(model.versions.values()) == ([] if graph is None else [graph])
    assert (model.problem is None) == (graph is not None)
