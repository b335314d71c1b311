"""Chains of "equal" that ask for one of several values become one split each.

Exporters write "category in {1, 3, 7}" as splits that share their true side: x = 1, else x = 3, else x = 7. Each would
add a path to every leaf below, so that a few levels of such sets have more paths than memory.
"""

from dataclasses import replace

import numpy as np

from penstock.explain.nodes import Flags, Integers
from penstock.explain.trees.ensembles import TreeNodes
from penstock.explain.trees.splits import EQ, MEMBER, MemberSets, Splits


def merge_chains(nodes: TreeNodes) -> TreeNodes:
    """Return the same trees with the first split of each chain asking for all values of the chain."""
    goes_on = _goes_on(nodes)
    if not goes_on.any():
        return nodes
    inside = np.zeros(len(nodes.splits), dtype=bool)
    inside[nodes.on_false[goes_on]] = True
    heads = np.flatnonzero(goes_on & ~inside)
    chains = [_follow(int(head), nodes.on_false, goes_on) for head in heads]
    return _merge_chains(nodes, chains)


def _goes_on(nodes: TreeNodes) -> Flags:
    """Whether the false side of a split asks the same feature for another value with the same true side."""
    splits, count = nodes.splits, len(nodes.splits)
    if not count:
        return np.zeros(0, dtype=bool)
    is_split = nodes.on_false < count
    below = np.where(is_split, nodes.on_false, 0)
    alike = (splits.features[below] == splits.features) & (nodes.on_true[below] == nodes.on_true)
    return np.asarray(is_split & alike & (splits.modes == EQ) & (splits.modes[below] == EQ))


def _follow(head: int, on_false: Integers, goes_on: Flags) -> list[int]:
    chain = [head]
    while goes_on[chain[-1]] and len(chain) <= len(goes_on):
        chain.append(int(on_false[chain[-1]]))
    return chain


def _merge_chains(nodes: TreeNodes, chains: list[list[int]]) -> TreeNodes:
    splits = nodes.splits
    modes, nan_is_true, on_false = splits.modes.copy(), splits.nan_is_true.copy(), nodes.on_false.copy()
    for head, *others in chains:
        modes[head] = MEMBER
        nan_is_true[head] |= bool(splits.nan_is_true[others].any())
        on_false[head] = nodes.on_false[others[-1]]
    members = _with_chains(splits, chains)
    merged = Splits(splits.features, modes, splits.thresholds, nan_is_true, members)
    return replace(nodes, splits=merged, on_false=on_false)


def _with_chains(splits: Splits, chains: list[list[int]]) -> MemberSets:
    """The sets, and one for each chain, in the precision of the thresholds."""
    heads = np.repeat([chain[0] for chain in chains], [len(chain) for chain in chains])
    values = splits.thresholds[[split for chain in chains for split in chain]]
    return MemberSets(
        np.concatenate([splits.members.split, heads]),
        np.concatenate([splits.members.value.astype(splits.thresholds.dtype), values]),
        np.concatenate([splits.members.truncates, np.zeros(len(heads), dtype=bool)]),
    )
