"""Generated methods are compiled once for all starts, and are the same as without the file that keeps them."""

import dataclasses
import marshal
import random
import sys
from importlib.util import MAGIC_NUMBER as MAGIC
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.method_cache import MethodCache, StoredCode, pack_codes


@pytest.fixture(autouse=True)
def writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kept.methods"


def make(cache: MethodCache) -> type:
    """A class that is made while the cache is in use."""
    with cache.in_use():

        @dataclasses.dataclass(frozen=True, slots=True, order=True)
        class Point:
            x: int
            y: float = 2.0

        return Point


def test_what_one_start_compiled_the_next_one_reads(file: Path) -> None:
    first = MethodCache(file)
    made = make(first)
    first.save()
    kept = file.read_bytes()
    second = MethodCache(file)
    again = make(second)
    assert not second._new
    assert repr(again(1)) == repr(made(1))
    assert again(1) == again(1, 2.0) != again(1, 3.0)
    assert hash(again(1)) == hash(made(1))
    assert again(1) < again(2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        again(1).x = 2
    second.save()
    assert file.read_bytes() == kept
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_only_what_was_used_is_kept(file: Path) -> None:
    first = MethodCache(file)
    make(first)
    first.save()
    before = file.stat().st_size
    other = MethodCache(file)
    with other.in_use():
        dataclasses.make_dataclass("Other", ["a", "b"])
    other.save()
    assert 0 < file.stat().st_size < before


def test_outside_the_block_dataclasses_are_unchanged(file: Path) -> None:
    cache = MethodCache(file)
    make(cache)
    assert "exec" not in vars(dataclasses)
    known = len(cache._new)
    dataclasses.make_dataclass("Other", ["a"])
    assert len(cache._new) == known
    with pytest.raises(ValueError, match="within"), cache.in_use():
        raise ValueError("within")
    assert "exec" not in vars(dataclasses)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"torn",
        marshal.dumps(7),
        marshal.dumps((b"another Python", b"", b"", b"")),
        marshal.dumps((MAGIC, 1, 2)),
        marshal.dumps((MAGIC, {b"key": b"code"})),
        marshal.dumps((MAGIC, b"16 bytes of a key", b"", b"")),
        marshal.dumps((MAGIC, b"a", b"b", b"c", b"d")),
    ],
)
def test_a_file_that_cannot_be_used_is_replaced(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    cache = MethodCache(file)
    assert make(cache)(1).y == 2.0
    cache.save()
    again = MethodCache(file)
    make(again)
    assert not again._new


@given(st.dictionaries(st.binary(min_size=16, max_size=16), st.binary(max_size=4), max_size=8), st.randoms())
def test_stored_code_is_found_by_its_digest_in_any_order(entries: dict[bytes, bytes], order: random.Random) -> None:
    stored, keys = StoredCode(*pack_codes(entries)), list(entries)
    order.shuffle(keys)
    assert {key: stored.get(key) for key in keys} == entries
    assert stored.get(bytes(range(16))) == entries.get(bytes(range(16)))


def test_a_digest_is_found_only_where_one_begins() -> None:
    keys = [bytes([1] * 8 + [2] * 8), bytes([3] * 8 + [4] * 8)]
    stored = StoredCode(*pack_codes(dict.fromkeys(keys, b"x")))
    assert stored.get(bytes([2] * 8 + [3] * 8)) is None


def test_damaged_bytecode_is_compiled_anew(file: Path) -> None:
    first = MethodCache(file)
    make(first)
    first.save()
    magic, keys, ends, code = marshal.loads(file.read_bytes())
    file.write_bytes(marshal.dumps((magic, keys, ends, bytes(len(code)))))
    assert make(MethodCache(file))(1).y == 2.0


def test_where_python_writes_no_bytecode_nothing_is_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    cache = MethodCache(file)
    make(cache)
    cache.save()
    assert not file.exists()


def test_a_missing_folder_is_not_a_failure(tmp_path: Path) -> None:
    cache = MethodCache(tmp_path / "missing" / "kept.methods")
    make(cache)
    cache.save()
    assert list(tmp_path.iterdir()) == []
