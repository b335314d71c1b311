"""Merkle trees: test vectors of RFC 6962, ranges that join, and proofs."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.audit.merkle import (
    EMPTY_ROOT,
    LeafRange,
    ProofBuilder,
    hash_children,
    hash_leaf,
    is_included,
    largest_subtrees,
    sibling_ranges,
)

# The entries and roots with which implementations of Certificate Transparency are tested.
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(count: int) -> list[bytes]:
    return [hash_leaf(str(number).encode()) for number in range(count)]


def grown(hashes: list[bytes], begin: int = 0) -> LeafRange:
    tree = LeafRange(begin, begin)
    for leaf in hashes:
        tree.append(leaf)
    return tree


def root_by_definition(hashes: list[bytes]) -> bytes:
    """The definition of RFC 6962 §2.1, word for word."""
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256(b"").digest()
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hash_children(root_by_definition(hashes[:split]), root_by_definition(hashes[split:]))


def test_roots_are_those_of_certificate_transparency() -> None:
    tree = LeafRange()
    assert tree.root() == EMPTY_ROOT
    for entry, root in zip(ENTRIES, ROOTS, strict=True):
        tree.append(hash_leaf(entry))
        assert tree.root().hex() == root


@given(st.integers(0, 70))
def test_a_root_follows_the_definition(count: int) -> None:
    assert grown(leaves(count)).root() == root_by_definition(leaves(count))


@given(st.lists(st.integers(1, 20), max_size=6))
def test_ranges_join_to_the_same_tree(parts: list[int]) -> None:
    whole, joined, begin = leaves(sum(parts)), LeafRange(), 0
    for part in parts:
        piece = grown(whole[begin : begin + part], begin)
        joined.join(LeafRange.restore(piece.begin, piece.end, piece.hashes))
        begin += part
    assert joined == grown(whole)


def test_a_range_that_does_not_follow_or_has_other_hashes_is_refused() -> None:
    tree = grown(leaves(3))
    with pytest.raises(ValueError, match="does not follow"):
        tree.join(LeafRange(4, 4))
    with pytest.raises(ValueError, match="zip"):
        LeafRange.restore(0, 3, tree.hashes[:1])
    copied = tree.copy()
    copied.append(leaves(1)[0])
    assert (tree.end, copied.end) == (3, 4)


def test_the_largest_subtrees_of_a_range() -> None:
    assert list(largest_subtrees(0, 7)) == [(2, 0), (1, 2), (0, 6)]
    assert list(largest_subtrees(3, 9)) == [(0, 3), (2, 1), (0, 8)]
    assert list(largest_subtrees(5, 5)) == []


@given(st.integers(1, 70), st.data())
def test_a_proof_shows_its_leaf_and_no_other(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    more = data.draw(st.integers(0, 9))
    whole = leaves(size + more)
    builder = ProofBuilder(index, size)
    for number, leaf in enumerate(whole):
        builder.add((0, number), leaf)
    proof, root = builder.proof(), grown(whole[:size]).root()
    assert len(proof) == len(sibling_ranges(index, size))
    assert is_included(whole[index], index, size, proof, root)
    assert not is_included(hash_leaf(b"other"), index, size, proof, root)
    assert not is_included(whole[index], index, size, [*proof, root], root)
    assert not is_included(whole[index], size, size, proof, root)
    for number in range(len(proof)):
        changed = [*proof]
        changed[number] = hash_leaf(b"other")
        assert not is_included(whole[index], index, size, changed, root)
        assert not is_included(whole[index], index, size, [*proof[:number], *proof[number + 1 :]], root)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.data())
def test_a_proof_is_built_from_whole_ranges_where_they_do_not_have_the_leaf(
    parts: list[int], data: st.DataObject
) -> None:
    whole = leaves(sum(parts))
    index = data.draw(st.integers(0, len(whole) - 1))
    builder, begin = ProofBuilder(index, len(whole)), 0
    for part in parts:
        end = begin + part
        if begin <= index < end:
            for number in range(begin, end):
                builder.add((0, number), whole[number])
        else:
            for subtree, digest in grown(whole[begin:end], begin).nodes:
                builder.add(subtree, digest)
        begin = end
    assert is_included(whole[index], index, len(whole), builder.proof(), grown(whole).root())
