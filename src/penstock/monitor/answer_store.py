"""Finds remembered answers by the ids of their requests, and joins labels and rewards to them whenever they come."""

import logging
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.engine.durable_files import write_atomically
from penstock.monitor.answer_budget import AnswerBudget, File, over_budget
from penstock.monitor.answer_segments import SUFFIX, Segment, is_whole
from penstock.monitor.answers import LABELLED, REWARDED, SPLIT, Keys, Records, keys_of, label_token, prefix_of
from penstock.monitor.feedback import Feedback, JoinResult, LabelledRow, RewardedAnswer

log = logging.getLogger("penstock.control")


NAME = "name"
"""The file with the name of the memory, in its folder."""


class AnswerStore:
    """The control process's end; blocks, and is used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments: dict[str, Segment] = {}

    def name(self) -> str:
        """What tells this memory from those of other gateways; it stays the same for as long as the memory.

        Raises:
            OSError: it cannot be read, or written down.
        """
        file = self._folder / NAME
        if not file.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(file, secrets.token_hex(16))
        return file.read_text()

    def take(self, model: str, told: Sequence[Feedback], now: float, horizon_s: float) -> JoinResult:
        """Join what was told to the answers, and write it down; an answer older than the horizon is too late."""
        taken = JoinResult.nothing()
        if not told:
            return taken
        keys = keys_of(model, [one.id for one in told])
        left, reason, unread = np.arange(len(told)), "", False
        for segment in self._newest_first(model):
            if not len(left):
                break
            try:
                hits = _hits(segment, keys[left])
            except OSError as error:
                reason, unread = error.strerror or type(error).__name__, True
                continue
            for index, places in hits.items():
                one = told[int(left[index])]
                try:
                    taken.add(_join(segment, places, one, now, horizon_s))
                except OSError as error:
                    reason = error.strerror or type(error).__name__
                    taken.failed.append(one)
            left = np.delete(left, list(hits))
        (taken.failed if unread else taken.unknown).extend(told[int(index)] for index in left)
        if taken.failed:  # one line, however many there are
            log.warning("%d labels could not be joined: %s", len(taken.failed), reason)
        return taken

    def labelled(self, model: str, version: str, most: int) -> list[LabelledRow]:
        """The rows that were labelled last, oldest first: what a successor of this process learns anew from."""
        found: list[LabelledRow] = []
        for segment in self._readable(model):
            if segment.version != version:
                continue
            records = segment.read(0, segment.filled)
            marked = records[(records["marks"] & LABELLED) > 0]
            found += [_joined_of(version, one) for one in marked]
            if len(found) >= most:
                break
        return sorted(found, key=lambda one: one.at)[-most:]

    def versions(self, model: str) -> set[str]:
        """The versions of a model of which answers are remembered."""
        self._look()
        return {one.version for one in self._segments.values() if one.model == prefix_of(model)}

    def labels(self, model: str, version: str, ids: Sequence[str]) -> dict[str, list[float]]:
        """The labels of these requests, row by row (NaN where none was told)."""
        keys, found = keys_of(model, ids), dict[str, list[float]]()
        for segment in self._readable(model):
            if segment.version == version:
                for index, places in segment.places(keys).items():
                    records = segment.at(places)
                    records = records[_last(records) :]
                    values = np.where((records["marks"] & LABELLED) > 0, records["label"], np.nan)
                    found.setdefault(ids[index], values.tolist())
        return found

    def sweep(self, now: float, horizon_s: float, room: AnswerBudget) -> Counter[str]:
        """Delete what is too old for any label, and the oldest beyond the room there is; how many answers were deleted
        for want of room, by the prefix of their model (see ``prefix_of``)."""
        self._look()
        for segment in list(self._segments.values()):
            if now - segment.last_at() > 2 * horizon_s:
                self._remove(segment)
        dropped: Counter[str] = Counter()
        for name in over_budget([File(one.path.name, one.model, one.bytes()) for one in self._oldest_first()], room):
            segment = self._segments[name]
            dropped[segment.model] += segment.filled
            self._remove(segment)
        return dropped

    def _remove(self, segment: Segment) -> None:
        segment.remove()
        del self._segments[segment.path.name]

    def _oldest_first(self) -> list[Segment]:
        return sorted(self._segments.values(), key=lambda one: one.began)

    def _newest_first(self, model: str) -> list[Segment]:
        self._look()
        mine = [one for one in self._segments.values() if one.model == prefix_of(model)]
        return sorted(mine, key=lambda one: one.began, reverse=True)

    def _readable(self, model: str) -> Iterator[Segment]:
        for segment in self._newest_first(model):
            try:
                segment.refresh()
            except OSError as error:
                log.warning("remembered answers cannot be read: %s", error.strerror)
                continue
            yield segment

    def _look(self) -> None:
        try:
            names = {one.name for one in os.scandir(self._folder) if one.name.endswith(SUFFIX)}
        except OSError:
            names = set()
        for name in self._segments.keys() - names:
            del self._segments[name]
        for name in names - self._segments.keys():
            path = self._folder / name
            if is_whole(path):
                self._segments[name] = Segment(path)


def _hits(segment: Segment, keys: Keys) -> dict[int, NDArray[np.intp]]:
    """The places of the keys that a segment has now; raises ``OSError``."""
    segment.refresh()
    return segment.places(keys)


def _last(records: Records) -> int:
    """Where the last answer begins among those of an id that was used again."""
    starts = np.flatnonzero(records["row"] == 0)
    return int(starts[-1]) if len(starts) else 0


def _join(segment: Segment, places: NDArray[np.intp], told: Feedback, now: float, horizon_s: float) -> JoinResult:
    """Write down what was told of one request; of an id that was used again, the last time counts.

    Raises:
        OSError: it cannot be written down; nothing is counted then.
    """
    taken, known = JoinResult.nothing(), told.at or told.came_at or now
    records = segment.at(places)
    first = _last(records)
    places, records = places[first:], records[first:]
    if known - float(records["at"][0]) > horizon_s:
        taken.too_late.append(segment.version)
        return taken
    if told.reward is not None:
        _reward(segment.version, records[:1], told, told.reward, taken)
    labels = told.label if isinstance(told.label, list) else [told.label]
    for index, label in enumerate(labels[: len(records)]):
        if label is not None:
            _label(segment.version, records[index : index + 1], label, known, taken)
    taken.joined = [replace(one, came_at=told.came_at) for one in taken.joined]
    if taken.joined or taken.rewards:
        segment.write(places, records)
    return taken


def _reward(version: str, record: Records, told: Feedback, reward: float, taken: JoinResult) -> None:
    if record["marks"][0] & REWARDED:
        taken.duplicates.append(version)
        return
    record["reward"] = reward
    record["marks"] |= REWARDED
    by_split = bool(record["marks"][0] & SPLIT)
    taken.rewards.append(RewardedAnswer(version, reward, float(record["at"][0]), by_split, told.came_at))


def _label(version: str, record: Records, label: Any, known: float, taken: JoinResult) -> None:
    if record["marks"][0] & LABELLED:
        taken.duplicates.append(version)
        return
    token = label_token(label, int(record["form"][0]))
    if token is None:
        taken.unusable.append(version)
        return
    record["label"], record["told_at"] = token, known
    record["marks"] |= LABELLED
    taken.joined.append(_joined_of(version, record[0]))


def _joined_of(version: str, record: Mapping[str, Any]) -> LabelledRow:
    scores = tuple(float(one) for one in record["scores"])
    answer, label, at = float(record["answer"]), float(record["label"]), float(record["told_at"])
    by_split = bool(int(record["marks"]) & SPLIT)
    return LabelledRow(version, int(record["form"]), answer, scores, label, at, float(record["at"]), by_split)
