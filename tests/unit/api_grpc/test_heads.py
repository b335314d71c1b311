"""Header blocks: what a connection's first blocks mean is known from others, and never anything else than they say."""

import hpack
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.grpc.http2.header_cache import DEEPEST, MOST_BLOCKS, MOST_BYTES, Beginnings, Head, Heads, Malformed

Fields = list[tuple[str, str]]

PSEUDO = [(":method", "POST"), (":scheme", "http"), (":path", "/inference.GRPCInferenceService/ModelInfer")]
USUAL = [*PSEUDO, ("content-type", "application/grpc"), ("te", "trailers")]

REQUESTS: st.SearchStrategy[Fields] = st.builds(
    lambda path, more: [*PSEUDO[:2], (":path", path), *USUAL[3:], *more],
    st.sampled_from(["/a", "/b"]),
    st.lists(
        st.tuples(st.sampled_from(["x", "y", ":odd", "Upper"]), st.sampled_from(["1", "2", "3" * 200])), max_size=2
    ),
)


def said(reader: Heads, block: bytes) -> Head | None:
    try:
        return reader.read(block)
    except Malformed:
        return None


@given(st.lists(st.lists(st.tuples(REQUESTS, st.booleans()), max_size=6), min_size=2, max_size=6))
def test_whoever_knows_how_others_began_reads_the_same(connections: list[list[tuple[Fields, bool]]]) -> None:
    shared = Beginnings()
    for requests in connections:
        encoder, knowing, alone = hpack.Encoder(), Heads(1 << 14, shared), Heads(1 << 14, Beginnings())
        for fields, has_trailers in requests:
            block = encoder.encode(fields)
            assert said(knowing, block) == said(alone, block)
            if has_trailers:
                trailers = encoder.encode([("z", fields[2][1])])
                assert knowing.fields(trailers) == alone.fields(trailers)


def test_a_beginning_is_read_once() -> None:
    shared, heads = Beginnings(), list[Head]()
    for _ in range(3):
        encoder, reader = hpack.Encoder(), Heads(1 << 14, shared)
        blocks = [encoder.encode(USUAL), encoder.encode(USUAL), encoder.encode([*USUAL, ("x", "1")])]
        assert blocks[0] != blocks[1]
        heads += [reader.read(block) for block in blocks]
        assert reader.known is shared.first.after[blocks[0]][1].after[blocks[2]][1].known
    assert [id(one) for one in heads] == [id(one) for one in heads[:3]] * 3


def test_a_connection_that_goes_its_own_way_is_read_from_its_beginning() -> None:
    shared = Beginnings()
    Heads(1 << 14, shared).read(hpack.Encoder().encode(USUAL))
    encoder, reader = hpack.Encoder(), Heads(1 << 14, shared)
    for value in ("1", "2", "3", "3"):
        assert reader.read(encoder.encode([*USUAL, ("x", value)])).fields[b"x"] == value.encode()
    encoder, reader = hpack.Encoder(), Heads(1 << 14, shared)
    reader.read(encoder.encode(USUAL))
    assert reader.fields(encoder.encode([("x", "9"), ("te", "trailers")])) == [(b"x", b"9"), (b"te", b"trailers")]
    assert reader.read(encoder.encode([*USUAL, ("x", "9")])).fields[b"x"] == b"9"


def test_what_is_known_of_beginnings_is_bounded() -> None:
    shared, deepest = Beginnings(), 0
    for number in range(2500):
        encoder, reader = hpack.Encoder(), Heads(1 << 14, shared)
        for step in range(3 if number % 100 else 2 * DEEPEST):
            reader.read(encoder.encode([*USUAL, ("x", f"{number} {step}" + "x" * 300)]))
        assert shared._bytes <= MOST_BYTES
        deepest = max(deepest, depth(shared))
    assert deepest == DEEPEST
    assert len(shared.first.after) < 2500
    reader = Heads(1 << 14, shared)
    for number in range(3 * MOST_BLOCKS):  # blocks that leave the table as it is
        reader.read(hpack.Encoder().encode(PSEUDO[:2]) + b"\x04\x02/a" + b"\x00\x01x\x03%03d" % number)
        assert len(shared.first.known) <= MOST_BLOCKS


def depth(of: Beginnings) -> int:
    found, level = 0, [of.first]
    while level := [after for one in level for _, after in one.after.values()]:
        found += 1
    return found
