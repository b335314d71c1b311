"""Registered regions of real segments: who may name what, what is read and written, and segments that change."""

import multiprocessing
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import AlreadyExists, InvalidInput, NotFound, TooLarge, Unsupported
from penstock.serving import shared_memory
from penstock.serving.shared_memory import MAX_NAME, MAX_REGIONS, SEGMENTS, SharedRegion, SharedRegions

PREFIX = f"penstock-unit-{os.getpid()}-"


@pytest.fixture
def segment() -> Iterator[Path]:
    """A segment of 64 bytes that count up."""
    path = SEGMENTS / f"{PREFIX}{uuid.uuid4().hex}"
    path.write_bytes(bytes(range(64)))
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def regions(tmp_path: Path) -> SharedRegions:
    """Those of a worker that allows every segment of these tests."""
    return SharedRegions([f"/{PREFIX}*"], tmp_path / "regions.json")


def test_bytes_are_read_and_written_where_they_belong(regions: SharedRegions, segment: Path) -> None:
    regions.register(SharedRegion("r", segment.name, 8, 40))
    assert regions.span("r", 4, 6).read() == bytes(range(12, 18))
    regions.span("r", 38, 2).put("y", b"ab")
    assert segment.read_bytes() == bytes(range(46)) + b"ab" + bytes(range(48, 64))
    with pytest.raises(InvalidInput, match="output 'y' has 3 bytes; its shared memory has 2"):
        regions.span("r", 38, 2).put("y", b"abc")


@given(st.integers(-2, 45), st.integers(-2, 45))
def test_a_span_lies_inside_its_region_or_is_refused(offset: int, size: int) -> None:
    regions = SharedRegions(["/x"], Path("/nonexistent/regions.json"))
    regions._regions["", "r"] = SharedRegion("r", "/x", 8, 40)
    if offset >= 0 and size >= 0 and offset + size <= 40:
        assert regions.span("r", offset, size).size == size
    else:
        with pytest.raises(InvalidInput, match="not inside"):
            regions.span("r", offset, size)


def test_a_segment_that_is_truncated_is_an_error_of_its_caller(regions: SharedRegions, segment: Path) -> None:
    regions.register(SharedRegion("r", segment.name, 0, 64))
    span = regions.span("r", 0, 64)
    os.truncate(segment, 10)
    with pytest.raises(InvalidInput, match="smaller than when it was registered"):
        span.read()
    with pytest.raises(InvalidInput, match="smaller than when it was registered"):
        span.put("y", bytes(64))
    assert segment.stat().st_size == 10  # writing has not made it longer
    segment.unlink()
    for use in (span.read, lambda: span.put("y", b"")):
        with pytest.raises(InvalidInput, match="cannot be used"):
            use()


def _truncate_for_ever(path: str, stop: "multiprocessing.synchronize.Event") -> None:
    while not stop.is_set():
        os.truncate(path, 0)
        os.truncate(path, 1 << 20)


def test_truncating_while_others_read_and_write_ends_nobody(regions: SharedRegions, segment: Path) -> None:
    size = 1 << 20
    os.truncate(segment, size)
    regions.register(SharedRegion("r", segment.name, 0, size))
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    other = context.Process(target=_truncate_for_ever, args=(str(segment), stop))
    other.start()
    try:
        span, raw = regions.span("r", 0, size), bytes(size)
        for _ in range(300):
            for use in (span.read, lambda: span.put("y", raw)):
                with suppress(InvalidInput):
                    use()
    finally:
        stop.set()
        other.join()


def test_what_one_worker_registers_all_find(tmp_path: Path, segment: Path) -> None:
    one, other = (SharedRegions([segment.name], tmp_path / "regions.json") for _ in range(2))
    region = SharedRegion("r", f"/{segment.name}", 0, 64)
    one.register(region)
    assert other.status("r") == [region]
    assert other.span("r", 0, 4).read() == bytes(range(4))
    with pytest.raises(AlreadyExists, match="registered already"):
        other.register(SharedRegion("r", f"/{segment.name}", 8, 8))
    other.unregister("r")
    assert one.status() == []
    with pytest.raises(InvalidInput, match="register it first"):
        one.span("r", 0, 4)
    with pytest.raises(NotFound):
        one.status("r")


def test_a_region_exists_for_its_owner_alone(regions: SharedRegions, segment: Path, tmp_path: Path) -> None:
    region = SharedRegion("r", segment.name, 0, 64, "key:a")
    regions.register(region)
    assert regions.status("", "key:a") == regions.status("r", "key:a") == [region]
    assert regions.span("r", 0, 4, "key:a").read() == bytes(range(4))
    for other in ("", "key:b", "mtls:a"):
        assert regions.status("", other) == []
        with pytest.raises(NotFound, match="unknown shared memory region 'r'"):
            regions.status("r", other)
        with pytest.raises(InvalidInput, match="unknown shared memory region 'r'"):
            regions.span("r", 0, 4, other)
        regions.unregister("r", other)
        regions.unregister("", other)
    worker = SharedRegions([f"/{PREFIX}*"], tmp_path / "regions.json")  # what is stored has the owner too
    assert worker.status("", "key:a") == [region]
    worker.unregister("", "key:a")
    assert regions.status("", "key:a") == []


def test_callers_have_names_of_their_own_but_share_no_segment(regions: SharedRegions, segment: Path) -> None:
    second = segment.with_name(f"{segment.name}-b")
    second.write_bytes(bytes(8))
    try:
        regions.register(SharedRegion("r", segment.name, 0, 64, "key:a"))
        regions.register(SharedRegion("s", f"/{segment.name}", 0, 64, "key:a"))
        regions.register(SharedRegion("r", second.name, 0, 8, "key:b"))
        assert regions.span("r", 0, 4, "key:a").read() == bytes(range(4))
        assert regions.span("r", 0, 4, "key:b").read() == bytes(4)
        for key in (segment.name, f"/{segment.name}"):
            with pytest.raises(AlreadyExists, match="another caller has registered a region"):
                regions.register(SharedRegion("t", key, 0, 4, "key:b"))
        regions.unregister("r", "key:a")
        with pytest.raises(AlreadyExists):  # by the other region
            regions.register(SharedRegion("t", segment.name, 0, 4, "key:b"))
        regions.unregister("", "key:a")
        regions.register(SharedRegion("t", segment.name, 0, 4, "key:b"))
        assert [region.name for region in regions.status("", "key:b")] == ["r", "t"]
    finally:
        second.unlink()


@pytest.mark.parametrize(
    ("allowed", "key", "is_allowed"),
    [
        ("/images", "/images", True),
        ("/images", "images", True),
        ("images", "/images", True),
        ("/images", "/images2", False),
        ("/images*", "/images", True),
        ("/images*", "/images-17.raw", True),
        ("/images*", "/image", False),
        ("/images*", "/images/../x", False),
        ("/images*", "/images/x", False),
        ("/images*", "//images", False),
        ("/images*", "/images\0", False),
        ("/images*", "/images\n", False),
        ("/images*", "/images*", False),
        ("/images*", "", False),
        ("/images*", "/images" + "x" * 200, False),
    ],
)
def test_which_keys_a_name_allows(allowed: str, key: str, is_allowed: bool, tmp_path: Path) -> None:
    regions = SharedRegions([allowed], tmp_path / "regions.json")
    with pytest.raises(InvalidInput) as raised:
        regions.register(SharedRegion("r", key, 0, 4))
    assert ("there is no shared memory with this key" in str(raised.value)) == is_allowed


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_plain_segments_are_opened(kind: str, tmp_path: Path, regions: SharedRegions, segment: Path) -> None:
    segment.unlink()
    target = tmp_path / "secret"
    target.write_bytes(bytes(64))
    match kind:
        case "link":
            segment.symlink_to(target)
        case "pipe":
            os.mkfifo(segment)
        case "folder":
            segment.mkdir()
    try:
        with pytest.raises(InvalidInput, match="no shared memory with this key"):
            regions.register(SharedRegion("r", segment.name, 0, 4))
    finally:
        if kind == "folder":
            segment.rmdir()


@pytest.mark.parametrize(
    ("offset", "size", "why"),
    [(0, 65, "end after"), (64, 1, "end after"), (1 << 62, 1 << 62, "end after"), (-1, 4, "offset"), (0, 0, "byte")],
)
def test_regions_lie_inside_their_segment(
    regions: SharedRegions, segment: Path, offset: int, size: int, why: str
) -> None:
    with pytest.raises(InvalidInput, match=why):
        regions.register(SharedRegion("r", segment.name, offset, size))


def test_regions_are_bounded(tmp_path: Path, segment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    regions = SharedRegions([segment.name], tmp_path / "regions.json", max_tensor_bytes=16)
    for name in ("", "x" * (MAX_NAME + 1)):
        with pytest.raises(InvalidInput, match="1 to 256 characters"):
            regions.register(SharedRegion(name, segment.name, 0, 4))
    regions.register(SharedRegion("r", segment.name, 0, 64))
    assert len(regions.span("r", 0, 16).read()) == 16
    with pytest.raises(TooLarge, match="17 bytes of shared memory are over the limit of 16 bytes"):
        regions.span("r", 0, 17)
    assert MAX_REGIONS == 1024
    monkeypatch.setattr(shared_memory, "MAX_REGIONS", 2)
    regions.register(SharedRegion("s", segment.name, 0, 64))
    with pytest.raises(InvalidInput, match="2 shared memory regions already"):
        regions.register(SharedRegion("t", segment.name, 0, 64))


def test_where_it_is_off_there_is_nothing_to_show_or_forget() -> None:
    regions = SharedRegions()
    assert not regions.is_enabled
    assert regions.status() == []
    regions.unregister()
    regions.unregister("r")
    with pytest.raises(NotFound):
        regions.status("r")
    for use in (lambda: regions.register(SharedRegion("r", "/x", 0, 4)), lambda: regions.span("r", 0, 4)):
        with pytest.raises(Unsupported, match="not offered here"):
            use()
