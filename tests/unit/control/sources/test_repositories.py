"""Several repositories: one that is away keeps what it had, is told of once, and stops none of the others."""

import logging
import shutil
from pathlib import Path

import pytest

from penstock.control.sources.repositories import Repositories, RepositoryState, SourceRepository, readings
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
