"""Paths: from the roots to leaves, also where nodes are shared; too many or endless ones are refused."""

import numpy as np
import pytest

from penstock.explain.nodes import NotExact
from penstock.explain.trees import ensembles
from penstock.explain.trees.ensembles import LeafWeights, TreeNodes, find_paths, weights_of_paths
from penstock.explain.trees.splits import Splits, no_sets


def nodes(on_true: list[int], on_false: list[int], roots: list[int], leaves: int) -> TreeNodes:
    count = len(on_true)
    zeros = np.zeros(count, dtype=np.int64)
    splits = Splits(zeros, zeros, np.zeros(count, dtype=np.float32), np.zeros(count, dtype=bool), no_sets())
    return TreeNodes(splits, np.array(on_true), np.array(on_false), np.array(roots), leaves)


def listed(found: ensembles.LeafPaths) -> dict[int, list[list[tuple[int, bool]]]]:
    """For each leaf its paths, as splits with their sides."""
    paths: dict[int, list[list[tuple[int, bool]]]] = {}
    for number, leaf in enumerate(found.leaf.tolist()):
        use = found.path == number
        pairs = sorted(zip(found.split[use].tolist(), found.side[use].tolist(), strict=True))
        paths.setdefault(leaf, []).append(pairs)
    return paths


def test_two_trees_and_a_lone_leaf() -> None:
    found = find_paths(nodes([1, 3, 6], [5, 4, 7], [0, 2, 8], 6))
    assert listed(found) == {
        0: [[(0, True), (1, True)]],
        1: [[(0, True), (1, False)]],
        2: [[(0, False)]],
        3: [[(2, True)]],
        4: [[(2, False)]],
        5: [[]],
    }
    assert (np.diff(found.path) >= 0).all()


def test_a_shared_leaf_has_a_path_for_each_way() -> None:
    """x = 1 or x = 3, as a chain."""
    found = find_paths(nodes([2, 2], [1, 3], [0], 2))
    assert listed(found) == {0: [[(0, False), (1, True)], [(0, True)]], 1: [[(0, False), (1, False)]]} or listed(
        found
    ) == {0: [[(0, True)], [(0, False), (1, True)]], 1: [[(0, False), (1, False)]]}
    weights = LeafWeights(np.array([1, 0, 0]), np.array([0, 0, 1]), np.array([5.0, 6.0, 7.0]))
    of_paths = weights_of_paths(weights, found, 2)
    for path, leaf in enumerate(found.leaf.tolist()):
        assert of_paths.weight[of_paths.leaf == path].tolist() == ([6.0, 7.0] if leaf == 0 else [5.0])


def test_cycles_and_too_many_paths_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotExact, match="more than 256 splits"):
        find_paths(nodes([0], [1], [0], 1))
    monkeypatch.setattr(ensembles, "MOST_LEAVES", 3)
    with pytest.raises(NotExact, match="more than 3 leaves"):
        find_paths(nodes([1, 3, 6], [5, 4, 7], [0, 2], 5))
