"""A reference of uploaded data: the upload is scratch, and a deletion that fails does not take the result back."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.references.files import ReferenceFiles
from penstock.control.monitoring.references.profiling import _read_reason
from penstock.control.monitoring.references.uploads import ReferenceUploads
from penstock.core.errors import InvalidInput
from penstock.engine.scratch import is_scratch, sweep
from penstock.registry.records import Document
from tests.integration.traffic.drive import FEATURES, scorer

pytestmark = pytest.mark.processes


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(1).normal(size=(200, FEATURES)).astype("f"))
    return (tmp_path / "data.npz").read_bytes()


def profiled(folder: Path, data: bytes) -> Document:
    """The reference of the data, uploaded in pieces."""

    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(data), 1000):
            yield data[begin : begin + 1000]

    graph, writing = folder / "model.onnx", BlockingPool("writing", 1)
    graph.write_bytes(scorer().SerializeToString())
    uploads = ReferenceUploads(ReferenceFiles(folder / "references"), writing)
    try:
        return asyncio.run(uploads.profile(chunks(), (graph, "", folder), ()))
    finally:
        writing.close()
        uploads.pool.close()


def left(folder: Path) -> list[Path]:
    return [path for path in (folder / "references").iterdir() if is_scratch(path.name)]


def test_the_upload_is_gone_afterwards(tmp_path: Path, data: bytes) -> None:
    assert profiled(tmp_path, data)["rows"] == 200
    assert left(tmp_path) == []


def test_data_that_cannot_be_profiled_is_refused_and_gone(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        profiled(tmp_path, b"no data" * 1000)
    assert left(tmp_path) == []


def test_a_deletion_that_fails_does_not_fail_the_reference(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", broken)
        assert profiled(tmp_path, data)["rows"] == 200
    assert len(left(tmp_path)) == 2
    assert sweep(tmp_path / "references") == 2


@pytest.mark.parametrize("stderr", [b"", b"Killed", b"penstock: /home/x/data.csv is not a table"])
def test_a_reason_with_a_path_or_without_words_is_not_passed_on(stderr: bytes) -> None:
    assert _read_reason(stderr, Path("/home/x")) == "the data cannot be profiled"
