"""Chains of "equal" with one true side are one split, which sends rows the same way."""

from typing import Any

import numpy as np

from penstock.explain.nodes import Floats
from penstock.explain.trees.chains import merge_chains
from penstock.explain.trees.ensembles import TreeNodes, find_paths
from penstock.explain.trees.splits import EQ, LEQ, MEMBER, Splits, no_sets


def chain(values: list[float], nan_is_true: list[bool], modes: list[int], features: list[int]) -> TreeNodes:
    """Splits one behind the other on their false sides; every true side is leaf 0, the last false side is leaf 1."""
    count = len(values)
    splits = Splits(
        np.array(features), np.array(modes), np.array(values, dtype=np.float32), np.array(nan_is_true), no_sets()
    )
    return TreeNodes(splits, np.full(count, count), np.array([*range(1, count), count + 1]), np.array([0]), 2)


def leaf_of(nodes: TreeNodes, row: Any) -> int:
    decided, at = nodes.splits.decide(np.array(row, dtype=np.float64)), int(nodes.roots[0])
    while at < len(nodes.splits):
        at = int(nodes.on_true[at] if decided[at] else nodes.on_false[at])
    return at - len(nodes.splits)


def rows() -> Floats:
    values = [0.0, 1.0, 2.0, 3.0, 7.0, float("nan")]
    return np.array([[a, b] for a in values for b in values])


def test_a_chain_becomes_one_split() -> None:
    nodes = chain([1, 3, 7], [False, True, False], [EQ] * 3, [0] * 3)
    merged = merge_chains(nodes)
    assert merged.splits.modes.tolist() == [MEMBER, EQ, EQ]
    assert len(find_paths(merged).leaf) == 2
    assert [leaf_of(merged, row) for row in rows()] == [leaf_of(nodes, row) for row in rows()]


def test_what_asks_otherwise_ends_a_chain() -> None:
    nodes = chain([1, 3, 2, 7, 3, 0], [False] * 6, [EQ, EQ, LEQ, EQ, EQ, EQ], [0, 0, 0, 1, 1, 0])
    merged = merge_chains(nodes)
    assert merged.splits.modes.tolist() == [MEMBER, EQ, LEQ, MEMBER, EQ, EQ]
    assert [leaf_of(merged, row) for row in rows()] == [leaf_of(nodes, row) for row in rows()]


def test_without_chains_nothing_changes() -> None:
    nodes = chain([1, 2], [False, False], [LEQ, LEQ], [0, 0])
    assert merge_chains(nodes) is nodes


def test_long_chains_of_levels_stay_small() -> None:
    """Eight levels of sets of ten: as chains a hundred million paths, as sets nine."""
    count, levels = 10, 8
    values = np.tile(np.arange(count), levels)
    level = np.repeat(np.arange(levels), count)
    splits = Splits(level, np.full(80, EQ), values.astype(np.float32), np.zeros(80, dtype=bool), no_sets())
    on_true = np.where(level < levels - 1, (level + 1) * count, 80)
    is_last = np.arange(80) % count == count - 1
    on_false = np.where(is_last, 81 + level, np.arange(1, 81))
    merged = merge_chains(TreeNodes(splits, on_true, on_false, np.array([0]), levels + 1))
    assert len(find_paths(merged).leaf) == levels + 1
