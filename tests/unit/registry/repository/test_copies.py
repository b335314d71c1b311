"""Own copies: named by their bytes, bounded, mended when they are damaged, and cleared away when nobody needs them."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from penstock.core.errors import TooLarge
from penstock.registry.records import PreparationPlan
from penstock.registry.repository.copies import (
    FORGOTTEN_S,
    KEPT_S,
    PreparedVersion,
    RepositoryCopies,
    RepositoryVersion,
    VersionPreparer,
    is_intact,
)
from penstock.registry.repository.layout import find_models
from penstock.registry.repository.local import LocalTree


def source(root: Path, name: str = "m") -> RepositoryVersion:
    tree = LocalTree(root)
    model = next(model for model in find_models(tree) if model.name == name)
    return RepositoryVersion(tree, model, model.versions["1"])


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def copied(copies: RepositoryCopies, found: RepositoryVersion, *weights: str) -> PreparedVersion:
    work = copies.begin(found)
    try:
        work.take_graph()
        work.take_rest(PreparationPlan(None, weights))
        return work.keep(work.finish())
    finally:
        work.close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def test_the_same_bytes_are_kept_once(tmp_path: Path) -> None:
    write(tmp_path / "models/m/1/model.onnx", "graph")
    write(tmp_path / "models/m/1/w.bin", "weights")
    write(tmp_path / "models/n/1/model.onnx", "graph")
    copies = RepositoryCopies(tmp_path / "copies", "these", 100)
    first = copied(copies, source(tmp_path / "models"), "w.bin")
    assert copied(copies, source(tmp_path / "models"), "w.bin") == first
    other = copied(copies, source(tmp_path / "models", "n"))
    assert names(first.root.parent) == {first.content, other.content}
    assert copies.find(first.content) == first.root
    assert copies.find("0" * 32) is None
    assert (first.root / first.graph).read_text() == "graph"


def test_the_same_bytes_may_be_kept_by_several_at_once(tmp_path: Path) -> None:
    """Of one process, or of two that serve the same repositories for a moment."""
    models = [f"m{number}" for number in range(8)]
    for name in models:
        write(tmp_path / f"models/{name}/1/model.onnx", "graph")
    found = [source(tmp_path / "models", name) for name in models]
    with ThreadPoolExecutor(len(models)) as pool:
        for again in range(40):
            several = [RepositoryCopies(tmp_path / f"copies{again}", "these", 100) for _ in range(2)]
            works = [several[index % 2].begin(item) for index, item in enumerate(found)]
            for work in works:
                work.take_graph()
            pieces, begin = [work.finish() for work in works], Barrier(len(works))

            def keep(work: VersionPreparer, piece: PreparedVersion, begin: Barrier = begin) -> Path:
                begin.wait()
                return work.keep(piece).root

            assert len(set(pool.map(keep, works, pieces))) == 1


def test_a_damaged_copy_is_made_good(tmp_path: Path) -> None:
    write(tmp_path / "models/m/1/model.onnx", "graph")
    copies = RepositoryCopies(tmp_path / "copies", "these", 100)
    piece = copied(copies, source(tmp_path / "models"))
    assert is_intact(piece)
    graph = piece.root / piece.graph
    graph.chmod(0o600)
    graph.write_text("grape")
    assert not is_intact(piece)
    assert copied(copies, source(tmp_path / "models")) == piece
    assert is_intact(piece)
    graph.unlink()
    assert not is_intact(piece)


def test_a_version_is_bounded_as_a_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path / "models/m/1/model.onnx", "x" * 60)
    write(tmp_path / "models/m/1/w.bin", "y" * 41)
    copies = RepositoryCopies(tmp_path / "copies", "these", 100)
    with pytest.raises(TooLarge, match=r"40 bytes left"):
        copied(copies, source(tmp_path / "models"), "w.bin")
    (folder,) = (path for path in (tmp_path / "copies").iterdir())
    assert names(folder) == set()


def test_what_is_not_offered_goes_after_a_while(tmp_path: Path) -> None:
    now = 1_000_000.0
    for name in "mn":
        write(tmp_path / f"models/{name}/1/model.onnx", name)
    copies = RepositoryCopies(tmp_path / "copies", "these", 100, lambda: now)
    kept, left = (copied(copies, source(tmp_path / "models", name)) for name in "mn")
    (left.root.parent / ".torn").mkdir()
    for path in (kept.root, left.root, left.root.parent / ".torn"):
        os.utime(path, (now, now))
    copies.sweep({kept.content})
    assert names(left.root.parent) == {kept.content, left.content, ".torn"}
    now += KEPT_S + 1
    copies.sweep({kept.content})
    assert names(left.root.parent) == {kept.content}


def test_copies_of_repositories_that_nobody_serves_go_with_time(tmp_path: Path) -> None:
    now = 1_000_000.0
    write(tmp_path / "models/m.onnx", "m")
    served, left, fresh = (
        RepositoryCopies(tmp_path / "copies", name, 100, lambda: now) for name in ("served", "left", "fresh")
    )
    places = [copied(copies, source(tmp_path / "models")).root.parent for copies in (served, left, fresh)]
    assert left._lock is not None
    os.close(left._lock)
    for place in places[:2]:
        os.utime(place, (now - FORGOTTEN_S - 1,) * 2)
    os.utime(places[2], (now, now))
    copied(RepositoryCopies(tmp_path / "copies", "new", 100, lambda: now), source(tmp_path / "models"))
    assert [place.is_dir() for place in places] == [True, False, True]


def test_two_processes_of_one_repository_share_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "models/m.onnx", "m")
    before, after = (RepositoryCopies(tmp_path / "copies", "these", 100) for _ in range(2))
    assert copied(before, source(tmp_path / "models")) == copied(after, source(tmp_path / "models"))
    assert after._lock is None
    assert before._lock is not None
    os.close(before._lock)
    copied(after, source(tmp_path / "models"))
    assert after._lock is not None
