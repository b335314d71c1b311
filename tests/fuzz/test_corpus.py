"""What guided fuzzing has kept is replayed: no input of it may find a bug again."""

from collections.abc import Iterator

import pytest

from tests.fuzz.seeds import CORPUS, seeds
from tests.fuzz.targets import TARGETS, Found, forget

MOST_BYTES = 512 << 10


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    yield
    forget()


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_finds_nothing(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert len(inputs) >= len(seeds()[name])
    for path in inputs:
        TARGETS[name](path.read_bytes())


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) <= MOST_BYTES


@pytest.mark.parametrize("name", ["rest", "grpc"])
def test_a_bug_would_be_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure inside a request is one, though its caller gets an answer."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    data = (CORPUS / name / "seed-0").read_bytes()
    TARGETS[name](data)
    monkeypatch.setattr("penstock.serving.loaded_version.monotonic_ns", broken)
    with pytest.raises(Found):
        TARGETS[name](data)
