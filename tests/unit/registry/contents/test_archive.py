"""Tars that people push: plain ones are taken as they are, everything else is refused with its reason."""

import gzip
import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import DataLoss, InvalidInput, Refused, TooLarge
from penstock.registry.blobs.folder import FolderBlobs, IncomingFile, hash_file
from penstock.registry.contents.archive import pack, packed_size, receive, unpack
from penstock.registry.contents.layout import ContentLayout
from penstock.registry.graphs.rewrite import ByteEdit, Rewrite
from penstock.registry.records import Content
from tests.budgets import examples

LIMIT = 1 << 20


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data) if info.isreg() else info.size
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return buffer.getvalue()


def file(name: str, data: bytes = b"graph") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def taken(tmp_path: Path, data: bytes, limit: int = LIMIT) -> Content:
    (tmp_path / "in").write_bytes(data)
    return receive(tmp_path / "in", tmp_path / "out", limit)


def test_a_bare_graph_is_one_file(tmp_path: Path) -> None:
    content = taken(tmp_path, b"some graph")
    assert (content.form, content.graph, content.size) == ("onnx", "model.onnx", 10)
    assert content.digest == hash_file(tmp_path / "in")
    assert [(file.path, f"sha256:{file.digest}") for file in content.files] == [("model.onnx", content.digest)]


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_tar_brings_its_files(tmp_path: Path, squeeze: Callable[[bytes], bytes]) -> None:
    config = b'max_batch_size: 4\ndefault_model_filename: "net.onnx"'
    data = squeeze(tar(file("./net.onnx"), file("weights/w.bin", b"\0\1"), file("config.pbtxt", config)))
    content = taken(tmp_path, data)
    assert (content.form, content.graph) == ("tar", "net.onnx")
    assert content.digest == hash_file(tmp_path / "in")
    assert [file.path for file in content.files] == ["net.onnx", "weights/w.bin", "config.pbtxt"]
    assert "max_batch_size" in content.config
    assert (tmp_path / "out" / "weights" / "w.bin").read_bytes() == b"\0\1"


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([file("../model.onnx")], "leads outside"),
        ([file("/etc/model.onnx")], "leads outside"),
        ([file("a/../../model.onnx")], "leads outside"),
        ([file("model.onnx"), special("w", tarfile.SYMTYPE, "/etc/passwd")], "a symbolic link"),
        ([file("model.onnx"), special("w", tarfile.LNKTYPE, "model.onnx")], "a hard link"),
        ([file("model.onnx"), special("w", tarfile.FIFOTYPE)], "a pipe"),
        ([file("model.onnx"), special("w", tarfile.CHRTYPE)], "a device"),
        ([file("model.onnx"), special("w", tarfile.BLKTYPE)], "a device"),
        ([file("model.onnx"), file("model.onnx")], "twice"),
        ([file("model.onnx"), file("./model.onnx")], "twice"),
        ([file("model.onnx"), file("model.onnx/w")], "both as a file and as a folder"),
        ([file("/".join("a" * 30) + "/model.onnx")], "too deep"),
        ([file("mo\x01del.onnx")], "unreadable"),
        ([file("readme.txt")], "no graphs"),
        ([file("a.onnx"), file("b.onnx")], "2 graphs"),
        ([file("model.onnx"), file("config.pbtxt", b"max_batch_sise: 4")], "does not parse"),
        ([file("model.onnx"), file("config.pbtxt", b'backend: "tensorrt"')], "backend"),
    ],
)
def test_what_cannot_be_trusted_is_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        taken(tmp_path, tar(*members))
    outside = {path.name for path in tmp_path.iterdir()}
    assert outside <= {"in", "out"}


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("model.onnx")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    info.size = 512
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"1\n0\n1\n" + bytes(506)))
    with pytest.raises(Refused):
        taken(tmp_path, buffer.getvalue())


def test_a_bomb_ends_early(tmp_path: Path) -> None:
    bomb = gzip.compress(tar(file("model.onnx", bytes(64 << 20))))
    assert len(bomb) < 1 << 20
    with pytest.raises(TooLarge):
        taken(tmp_path, bomb, limit=4 << 20)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) < 8 << 20


@settings(max_examples=examples(150), deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 2000), st.binary(min_size=1, max_size=20))
def test_torn_tars_are_refused_or_taken_but_never_break(noise: bytes, at: int, patch: bytes) -> None:
    good = tar(file("model.onnx"), file("w.bin", noise))
    materialize = at % len(good)
    torn = good[:materialize] + patch + good[materialize + len(patch) :]
    folder = Path(tempfile.mkdtemp())
    try:
        for data in (torn, good[:materialize], noise, gzip.compress(good)[:materialize]):
            (folder / "in").write_bytes(data)
            shutil.rmtree(folder / "out", ignore_errors=True)
            with suppress(Refused, TooLarge):
                receive(folder / "in", folder / "out", LIMIT)
            assert {path.name for path in folder.iterdir()} <= {"in", "out"}
    finally:
        shutil.rmtree(folder)


def test_packing_is_the_same_every_time_and_can_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    names = {"model.onnx": b"graph", "deep/er/w.bin": bytes(3000), "x" * 150: b""}
    files = {}
    for index, (name, data) in enumerate(names.items()):
        files[name] = tmp_path / "a" / str(index)
        files[name].write_bytes(data)
    first, second = b"".join(pack(files)), b"".join(pack(dict(reversed(files.items()))))
    assert first == second
    assert len(first) == packed_size(files)
    (tmp_path / "tar").write_bytes(first)
    unpack(tmp_path / "tar", tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names} == names
    files["gone"] = tmp_path / "gone"
    with pytest.raises(InvalidInput, match="'gone' cannot be read"):
        list(pack(files))


def test_a_tar_is_laid_out_once_and_again_when_it_is_lost(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    layout = ContentLayout(blobs, tmp_path / "unpacked")
    data = tar(file("model.onnx"), file("w.bin"))
    with IncomingFile(tmp_path / "incoming", LIMIT) as incoming:
        incoming.write(data)
        incoming.close()
        content = receive(incoming.path, tmp_path / "out", LIMIT)
        blobs.keep(incoming.path, content.digest)
    folder, graph = layout.materialize(content)
    assert graph.read_bytes() == b"graph"
    inode = graph.stat().st_ino
    assert layout.materialize(content)[1].stat().st_ino == inode
    layout.forget(content.digest)
    assert not folder.exists()
    assert layout.materialize(content)[1].read_bytes() == b"graph"
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == [folder.name]
    layout.forget(content.digest)
    blobs.fetch(content.digest).chmod(0o600)
    blobs.fetch(content.digest).write_bytes(data[:700])
    with pytest.raises(DataLoss):
        layout.materialize(content)
    assert not list((tmp_path / "unpacked").iterdir())


@pytest.mark.parametrize("name", ["model.onnx", "w.bin"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_tar_whose_files_are_not_what_they_were_is_laid_out_anew(tmp_path: Path, name: str, how: str) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    layout = ContentLayout(blobs, tmp_path / "unpacked")
    with IncomingFile(tmp_path / "incoming", LIMIT) as incoming:
        incoming.write(tar(file("model.onnx"), file("w.bin")))
        incoming.close()
        content = receive(incoming.path, tmp_path / "out", LIMIT)
        blobs.keep(incoming.path, content.digest)
    folder, _ = layout.materialize(content)
    sound = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / name).chmod(0o600)
    if how == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(sound[name][:-1] + (b"?" if how == "changed" else b""))
    assert layout.materialize(content)[0] == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == sound
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == [folder.name]


@pytest.mark.parametrize("packed", [True, False])
def test_a_changed_graph_that_is_not_what_it_was_is_laid_out_anew(tmp_path: Path, packed: bool) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    layout = ContentLayout(blobs, tmp_path / "unpacked")
    data = tar(file("model.onnx"), file("w.bin")) if packed else b"graph"
    with IncomingFile(tmp_path / "incoming", LIMIT) as incoming:
        incoming.write(data)
        incoming.close()
        content = receive(incoming.path, tmp_path / "out", LIMIT)
        blobs.keep(incoming.path, content.digest)
    changed = b"giraffe"
    rewrite = Rewrite((ByteEdit(1, 1, b"ir"), ByteEdit(3, 2, b"ffe")), f"sha256:{hashlib.sha256(changed).hexdigest()}")
    graph = layout.materialize(content, rewrite)[1]
    graph.chmod(0o600)
    graph.write_bytes(b"")  # as a power cut leaves what was not synced
    assert layout.materialize(content, rewrite)[1].read_bytes() == changed


@pytest.mark.parametrize("packed", [True, False])
def test_a_graph_is_laid_out_as_admission_changed_it(tmp_path: Path, packed: bool) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    layout = ContentLayout(blobs, tmp_path / "unpacked")
    data = tar(file("model.onnx"), file("w.bin")) if packed else b"graph"
    with IncomingFile(tmp_path / "incoming", LIMIT) as incoming:
        incoming.write(data)
        incoming.close()
        content = receive(incoming.path, tmp_path / "out", LIMIT)
        blobs.keep(incoming.path, content.digest)
    changed = b"giraffe"
    rewrite = Rewrite((ByteEdit(1, 1, b"ir"), ByteEdit(3, 2, b"ffe")), f"sha256:{hashlib.sha256(changed).hexdigest()}")
    folder, graph = layout.materialize(content, rewrite)
    assert graph.read_bytes() == changed
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", *(["w.bin"] if packed else [])]
    assert layout.materialize(content)[1].read_bytes() == b"graph"
    other = Rewrite(rewrite.edits, f"sha256:{'0' * 64}")
    with pytest.raises(DataLoss):
        layout.materialize(content, other)
    layout.forget(content.digest)
    assert not list((tmp_path / "unpacked").iterdir())
