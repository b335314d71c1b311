"""W3C Trace Context: what is read, what is ignored, and what is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.traces.context import (
    MOST_MEMBERS,
    MOST_READ,
    MOST_STATE,
    ParentContext,
    parse_parent,
    parse_state,
    read_sampled,
    write_parent,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01".encode()


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (GOOD, True),
        (f"00-{TRACE}-{SPAN}-00".encode(), False),
        (f"00-{TRACE}-{SPAN}-03".encode(), True),
        (f"00-{TRACE}-{SPAN}-fe".encode(), False),
        (f"cc-{TRACE}-{SPAN}-01".encode(), True),
        (f"cc-{TRACE}-{SPAN}-01-what.comes.later".encode(), True),
    ],
)
def test_contexts_of_this_and_later_versions_are_read(text: bytes, sampled: bool) -> None:
    assert parse_parent(text) == ParentContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), sampled)
    assert read_sampled(text) is sampled


@pytest.mark.parametrize(
    "text",
    [
        b"",
        GOOD + b"-rest",  # version 00 has no more fields
        GOOD + b",",
        GOOD[:-1],
        b" " + GOOD,
        b"ff" + GOOD[2:],
        f"cc-{TRACE}-{SPAN}-01.".encode(),
        GOOD.upper(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        GOOD + b"," + GOOD,  # two fields that were joined
        GOOD + b"\n",
        b"00" + b"-" + GOOD[2:],
    ],
)
def test_a_malformed_context_is_ignored(text: bytes) -> None:
    assert parse_parent(text) is None
    assert read_sampled(text) is None


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        (b"", ""),
        (b"a=1", "a=1"),
        (b" a=1 ,\tb@c=2 ,, 0x@v=3", "a=1,b@c=2,0x@v=3"),
        (b"a=1,a=2", ""),
        (b"A=1", ""),
        (b"a=", ""),
        (b"a=b=c", ""),
        (b"a=\x7f", ""),
        (b"a=\xc3\xa4", ""),
        (b"a", ""),
        (b",".join(b"k%d=v" % number for number in range(33)), ""),
        (b"a=" + b"v" * 257, ""),
        (b"a=" + b"v" * 5000, ""),
    ],
)
def test_a_state_is_kept_if_every_member_is_legal(stated: bytes, kept: str) -> None:
    assert parse_state(stated) == kept


def test_a_long_state_loses_its_oldest_members() -> None:
    stated = b",".join(b"k%02d=%s" % (number, b"v" * 60) for number in range(20))
    kept = parse_state(stated)
    assert len(kept) <= MOST_STATE
    assert stated.decode().startswith(kept) and kept.count("k") == 7


@given(st.binary(max_size=120), st.binary(max_size=120))
def test_nothing_that_comes_raises(traceparent: bytes, tracestate: bytes) -> None:
    parent = parse_parent(traceparent, tracestate)
    assert parent is None or len(parent.state) <= MOST_STATE


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.booleans())
def test_what_is_written_is_read_back(trace_id: bytes, span_id: bytes, sampled: bool) -> None:
    expected = ParentContext(trace_id, span_id, sampled) if any(trace_id) and any(span_id) else None
    assert parse_parent(write_parent(trace_id, span_id, sampled).encode()) == expected


def test_a_parent_comes_with_its_state() -> None:
    found = parse_parent(GOOD, b"a=1,b=2")
    assert found is not None and found.state == "a=1,b=2"
    plain = parse_parent(GOOD)
    assert plain is not None and plain.state == ""


@pytest.mark.parametrize(("members", "is_kept"), [(MOST_MEMBERS, True), (MOST_MEMBERS + 1, False)])
def test_a_state_has_a_limit_of_members(members: int, is_kept: bool) -> None:
    stated = ",".join(f"k{number}=v" for number in range(members))
    assert (parse_state(stated.encode()) != "") is is_kept


def test_a_state_is_read_and_kept_up_to_its_limits() -> None:
    first = ",".join(f"k{number}=" + "v" * 100 for number in range(4))
    last = ",last=" + "v" * (MOST_STATE - len(first) - 6)
    assert parse_state((first + last).encode()) == first + last
    assert parse_state((first + last + "v").encode()) == first
    blanks = b"a=1" + b"," * (MOST_READ - 3)
    assert parse_state(blanks) == "a=1"
    assert parse_state(blanks + b",") == ""
    assert parse_state(b"a=1 \t, \tb=2") == "a=1,b=2"
    assert parse_state(b"a=1,\x0bb=2") == ""
