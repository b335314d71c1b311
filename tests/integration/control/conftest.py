"""The models these tests serve: few and small, since a server is started for almost every test."""

from pathlib import Path

import pytest

from tests import zoo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of this test's own."""
    root = tmp_path / "models"
    zoo.place(root, "pair", {"1": zoo.versioned(1), "2": zoo.versioned(2)})
    zoo.save(zoo.logistic(), root / "logistic.onnx")
    return root
