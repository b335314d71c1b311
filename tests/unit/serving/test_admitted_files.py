"""A version is loaded from the very files that were hashed; files that change meanwhile are read again, and refused if
they do not come to rest."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.core.desired import Desired, ReadyState, VersionSpec
from penstock.engine import model as engine
from penstock.serving import model_loader
from tests.unit.serving.test_serving import World, in_world, model, scaled


def admitted(root: Path, factor: int) -> VersionSpec:
    """A spec of a graph in a folder, with the digest of its bytes."""
    folder = root / "version"
    folder.mkdir(parents=True)
    path = Path(scaled(folder / "model.onnx", factor))
    files = (("version/model.onnx", hashlib.sha256(path.read_bytes()).hexdigest()),)
    return VersionSpec("1", str(path), str(root / "model"), block=1, tag="a", root=str(root), files=files)


def swapping(monkeypatch: pytest.MonkeyPatch, graph: Path, evil: Path, times: int) -> list[Path]:
    """Exchange the graph while it is loaded, so many times, and put the admitted one back at once."""
    loads: list[Path] = []
    load: Callable[..., engine.Model] = engine.load

    def raced(path: Path, *more: object) -> engine.Model:
        loads.append(path)
        if len(loads) > times:
            return load(path, *more)
        aside = graph.with_name("aside")
        graph.rename(aside)
        evil.rename(graph)
        try:
            return load(path, *more)
        finally:
            graph.rename(evil)
            aside.rename(graph)

    monkeypatch.setattr(engine, "load", raced)
    return loads


@pytest.mark.parametrize(("times", "state"), [(1, ReadyState.READY), (3, ReadyState.UNAVAILABLE)])
def test_a_graph_that_is_swapped_while_it_is_loaded_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, state: ReadyState
) -> None:
    spec, evil = admitted(tmp_path / "good", 1), Path(scaled(tmp_path / "evil.onnx", 666))
    loads = swapping(monkeypatch, Path(spec.path), evil, times)

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec),)))
        (status,) = world.reports[-1]
        assert status.state is state
        if state is ReadyState.READY:
            assert await world.ask("m", [[1, 2]]) == [[1, 2]]
        else:
            assert status.reason == "its files changed while they were loaded"

    in_world(story)
    assert len(loads) == min(times + 1, model_loader.TRIES)
    assert all(str(path).startswith("/proc/self/fd/") for path in loads)


def test_other_bytes_are_not_loaded(tmp_path: Path) -> None:
    spec = admitted(tmp_path / "good", 1)
    scaled(Path(spec.path), 2)

    async def story(world: World) -> None:
        await world.loader.apply(Desired(1, (model("m", spec),)))
        (status,) = world.reports[-1]
        assert (status.state, status.reason) == (ReadyState.UNAVAILABLE, "its content does not match its digest")

    in_world(story)
