"""Merkle trees of RFC 6962 §2.1 over SHA-256: roots of growing ranges of leaves, and proofs of inclusion.

A range of leaves is kept as the hashes of its largest complete subtrees, so that ranges join without their leaves.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

Subtree = tuple[int, int]
"""A complete subtree: its level, and its index among those of this level; it has 2**level leaves."""


def hash_leaf(entry: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\0" + entry).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node from those of its children."""
    return hashlib.sha256(b"\1" + left + right).digest()


def largest_subtrees(begin: int, end: int) -> Iterator[Subtree]:
    """Yield the largest complete subtrees that together have the leaves from ``begin`` to before ``end``."""
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        yield level, begin >> level
        begin += 1 << level


@dataclass(slots=True)
class LeafRange:
    """The leaves from ``begin`` to before ``end``, as the hashes of their largest complete subtrees, left to right."""

    begin: int = 0
    end: int = 0
    nodes: list[tuple[Subtree, bytes]] = field(default_factory=list)

    @classmethod
    def restore(cls, begin: int, end: int, hashes: Sequence[bytes]) -> "LeafRange":
        """Return a range from its hashes; raises ``ValueError`` if their number is another."""
        return cls(begin, end, list(zip(largest_subtrees(begin, end), hashes, strict=True)))

    @property
    def hashes(self) -> list[bytes]:
        """The hashes, as ``restore`` takes them."""
        return [digest for _, digest in self.nodes]

    def copy(self) -> "LeafRange":
        """Return a copy that grows by itself."""
        return LeafRange(self.begin, self.end, list(self.nodes))

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        self._add((0, self.end), leaf)

    def join(self, following: "LeafRange") -> None:
        """Add the range that follows this one; raises ``ValueError`` if it begins elsewhere."""
        if following.begin != self.end:
            raise ValueError(f"a range from {following.begin} does not follow one that ends at {self.end}")
        for subtree, digest in following.nodes:
            self._add(subtree, digest)

    def _add(self, subtree: Subtree, digest: bytes) -> None:
        level, index = subtree
        self.end = (index + 1) << level
        while index & 1 and self.nodes and self.nodes[-1][0] == (level, index - 1):
            digest = hash_children(self.nodes.pop()[1], digest)
            level, index = level + 1, index >> 1
        self.nodes.append(((level, index), digest))

    def root(self) -> bytes:
        """Return the root of these leaves as a tree of their own; they must begin at a multiple of their tree's
        size."""
        if not self.nodes:
            return EMPTY_ROOT
        digest = self.nodes[-1][1]
        for _, left in reversed(self.nodes[:-1]):
            digest = hash_children(left, digest)
        return digest


def sibling_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Return the ranges of leaves whose roots prove a leaf of a tree, from the leaf's sibling up."""
    begin, end, siblings = 0, size, []
    while end - begin > 1:
        split = begin + (1 << ((end - begin - 1).bit_length() - 1))
        if index < split:
            siblings.append((split, end))
            end = split
        else:
            siblings.append((begin, split))
            begin = split
    return siblings[::-1]


class ProofBuilder:
    """Builds the proof that a leaf is in the tree of the first ``size`` leaves, from all leaves or ranges in order."""

    def __init__(self, index: int, size: int) -> None:
        self._index = index
        self._size = size
        self._siblings = [LeafRange(begin, begin) for begin, _ in sibling_ranges(index, size)]
        self._in_order = sorted(self._siblings, key=lambda item: item.begin)
        self._begins = [item.begin for item in self._in_order]

    def add(self, subtree: Subtree, digest: bytes) -> None:
        """Add the next subtree; the proven leaf, and leaves after the tree, are left out."""
        level, index = subtree
        begin = index << level
        if begin != self._index and begin < self._size:
            place = bisect_right(self._begins, begin) - 1
            self._in_order[place].join(LeafRange(begin, (index + 1) << level, [(subtree, digest)]))

    def proof(self) -> list[bytes]:
        """Return the proof, from the leaf's sibling up."""
        return [item.root() for item in self._siblings]


def is_included(leaf: bytes, index: int, size: int, proof: Iterable[bytes], root: bytes) -> bool:
    """Whether a proof shows that the leaf with this hash and index is in the tree with this root (RFC 9162
    §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, digest = index, size - 1, leaf
    for sibling in proof:
        if not last:
            return False
        if position & 1 or position == last:
            digest = hash_children(sibling, digest)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            digest = hash_children(digest, sibling)
        position, last = position >> 1, last >> 1
    return not last and digest == root
