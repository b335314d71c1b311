"""How a split of a tree sends rows: the comparisons of ai.onnx.ml, in the precision in which the runtime compares."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.explain.nodes import Flags, Integers, NotExact

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER, LEAF = range(8)
"""Modes of nodes by their numbers in TreeEnsemble (ai.onnx.ml 5), and one for leaves."""

MODES = {
    "BRANCH_LEQ": LEQ,
    "BRANCH_LT": LT,
    "BRANCH_GTE": GTE,
    "BRANCH_GT": GT,
    "BRANCH_EQ": EQ,
    "BRANCH_NEQ": NEQ,
    "BRANCH_MEMBER": MEMBER,
    "LEAF": LEAF,
}

_COMPARE = {
    LEQ: np.less_equal,
    LT: np.less,
    GTE: np.greater_equal,
    GT: np.greater,
    EQ: np.equal,
    NEQ: np.not_equal,
}


@dataclass(frozen=True, slots=True)
class MemberSets:
    """The members of sets, an element for each: the split that asks, the value, and whether the runtime compares it
    with the whole part of a number (``truncates``)."""

    split: Integers
    value: NDArray[Any]
    truncates: Flags

    def ask(self, values: NDArray[Any]) -> Flags:
        """Return for each split whether its value is a member of its set; without a set it is not."""
        asked = values[self.split]
        hit = np.where(self.truncates, np.trunc(asked), asked) == self.value
        found = np.zeros(len(values), dtype=bool)
        found[self.split[hit]] = True
        return found


def no_sets() -> MemberSets:
    """Return no sets at all."""
    return MemberSets(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=bool))


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits of an ensemble, one element for each: feature, mode, threshold, whether NaN takes the true branch, and
    the sets of those that ask for membership."""

    features: Integers
    modes: Integers
    thresholds: NDArray[Any]
    nan_is_true: Flags
    members: MemberSets

    def __len__(self) -> int:
        """Return the number of splits."""
        return len(self.features)

    def decide(self, row: NDArray[Any]) -> Flags:
        """Return for each split whether it sends a row [features] to its true branch."""
        values = row.astype(self.thresholds.dtype)[self.features]
        decided = self._compare(values)
        if self.nan_is_true.any():
            decided |= self.nan_is_true & np.isnan(values)
        return decided

    def _compare(self, values: NDArray[Any]) -> Flags:
        modes = np.flatnonzero(np.bincount(self.modes, minlength=1))
        if len(modes) == 1 and modes[0] in _COMPARE:
            return np.asarray(_COMPARE[int(modes[0])](values, self.thresholds), dtype=bool)
        decided = np.zeros(len(self), dtype=bool)
        for mode in modes:
            places = np.flatnonzero(self.modes == mode)
            decided[places] = self._compare_one_mode(int(mode), places, values)
        return decided

    def _compare_one_mode(self, mode: int, places: NDArray[np.intp], values: NDArray[Any]) -> Flags:
        if mode == MEMBER:
            return self.members.ask(values)[places]
        return np.asarray(_COMPARE[mode](values[places], self.thresholds[places]), dtype=bool)


def check_modes(modes: Integers) -> None:
    """Raise ``NotExact`` for a mode that is not known."""
    if modes.size and not (modes.min() >= LEQ and modes.max() <= LEAF):
        raise NotExact("a tree has a kind of split that is not known")
