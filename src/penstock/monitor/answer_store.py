"""Finds remembered answers by the ids of their requests, and joins labels and rewards to them."""

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
from penstock.monitor.answer_budget import AnswerBudget, AnswerFile, over_budget
from penstock.monitor.answer_segments import SUFFIX, AnswerSegment, is_complete
from penstock.monitor.answers import LABELLED, REWARDED, SPLIT, Keys, Records, keys_of, label_token, prefix_of
from penstock.monitor.feedback import Feedback, JoinResult, LabelledRow, RewardedAnswer

log = logging.getLogger("penstock.control")

NAME = "name"
"""The file with the name of the store, in its folder."""


class AnswerStore:
    """The answers of one gateway, as the control process reads them. Calls block; one thread may use it at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments: dict[str, AnswerSegment] = {}

    def name(self) -> str:
        """Return the name that distinguishes this store from those of other gateways; it lasts as long as the store.

        Raises:
            OSError: the name cannot be read or written.
        """
        file = self._folder / NAME
        if not file.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(file, secrets.token_hex(16))
        return file.read_text()

    def join_feedback(self, model: str, feedback: Sequence[Feedback], now: float, horizon_s: float) -> JoinResult:
        """Join feedback to the answers and store it; feedback on an answer older than the horizon is too late."""
        result = JoinResult.empty()
        if not feedback:
            return result
        keys = keys_of(model, [item.id for item in feedback])
        left, reason, unread = np.arange(len(feedback)), "", False
        for segment in self._newest_first(model):
            if not len(left):
                break
            try:
                hits = _find_keys(segment, keys[left])
            except OSError as error:
                reason, unread = error.strerror or type(error).__name__, True
                continue
            for index, places in hits.items():
                item = feedback[int(left[index])]
                try:
                    result.add(_join(segment, places, item, now, horizon_s))
                except OSError as error:
                    reason = error.strerror or type(error).__name__
                    result.failed.append(item)
            left = np.delete(left, list(hits))
        (result.failed if unread else result.unknown).extend(feedback[int(index)] for index in left)
        if result.failed:  # one line for all of them
            log.warning("%d labels could not be joined: %s", len(result.failed), reason)
        return result

    def labelled(self, model: str, version: str, most: int) -> list[LabelledRow]:
        """Return the ``most`` rows that were labelled last, oldest first: the next control process learns from them."""
        rows: list[LabelledRow] = []
        for segment in self._readable(model):
            if segment.version != version:
                continue
            records = segment.read(0, segment.filled)
            labelled = records[(records["marks"] & LABELLED) > 0]
            rows += [_labelled_row(version, record) for record in labelled]
            if len(rows) >= most:
                break
        return sorted(rows, key=lambda row: row.at)[-most:]

    def versions(self, model: str) -> set[str]:
        """Return the versions of a model that have remembered answers."""
        self._list_segments()
        return {segment.version for segment in self._segments.values() if segment.model == prefix_of(model)}

    def labels(self, model: str, version: str, ids: Sequence[str]) -> dict[str, list[float]]:
        """Return the labels of these requests by id, row by row, NaN for a row without a label."""
        keys, labels = keys_of(model, ids), dict[str, list[float]]()
        for segment in self._readable(model):
            if segment.version == version:
                for index, places in segment.places(keys).items():
                    records = segment.at(places)
                    records = records[_find_last(records) :]
                    values = np.where((records["marks"] & LABELLED) > 0, records["label"], np.nan)
                    labels.setdefault(ids[index], values.tolist())
        return labels

    def erase(self, model: str, rows: Mapping[str, frozenset[int]]) -> int:
        """Erase the remembered answers to these rows, by the ids of their requests; return how many there were.

        Raises:
            OSError: a segment cannot be read or written.
        """
        ids = list(rows)
        keys, erased = keys_of(model, ids), 0
        self._list_segments()
        for segment in self._newest_first(model) if ids else ():
            segment.refresh()
            found = segment.places(keys)
            for index, places in found.items():
                erased += segment.erase(places, rows[ids[index]])
            if found:
                segment.renew_index()
        return erased

    def sweep(self, now: float, horizon_s: float, budget: AnswerBudget) -> Counter[str]:
        """Delete answers that are too old for any label, and the oldest ones over the budget.

        Return how many answers were deleted because of the budget, by the prefix of their model (see ``prefix_of``).
        """
        self._list_segments()
        for segment in list(self._segments.values()):
            if now - segment.last_at() > 2 * horizon_s:
                self._remove(segment)
        dropped: Counter[str] = Counter()
        files = [AnswerFile(segment.path.name, segment.model, segment.bytes()) for segment in self._oldest_first()]
        for name in over_budget(files, budget):
            segment = self._segments[name]
            dropped[segment.model] += segment.filled
            self._remove(segment)
        return dropped

    def _remove(self, segment: AnswerSegment) -> None:
        segment.remove()
        del self._segments[segment.path.name]

    def _oldest_first(self) -> list[AnswerSegment]:
        return sorted(self._segments.values(), key=lambda segment: segment.began)

    def _newest_first(self, model: str) -> list[AnswerSegment]:
        self._list_segments()
        own = [segment for segment in self._segments.values() if segment.model == prefix_of(model)]
        return sorted(own, key=lambda segment: segment.began, reverse=True)

    def _readable(self, model: str) -> Iterator[AnswerSegment]:
        for segment in self._newest_first(model):
            try:
                segment.refresh()
            except OSError as error:
                log.warning("a segment of remembered answers cannot be read: %s", error.strerror)
                continue
            yield segment

    def _list_segments(self) -> None:
        try:
            names = {entry.name for entry in os.scandir(self._folder) if entry.name.endswith(SUFFIX)}
        except OSError:
            names = set()
        for name in self._segments.keys() - names:
            del self._segments[name]
        for name in names - self._segments.keys():
            path = self._folder / name
            if is_complete(path):
                self._segments[name] = AnswerSegment(path)


def _find_keys(segment: AnswerSegment, keys: Keys) -> dict[int, NDArray[np.intp]]:
    """Return the positions of the keys that a segment has now; raises ``OSError``."""
    segment.refresh()
    return segment.places(keys)


def _find_last(records: Records) -> int:
    """Return where the last answer begins among the records of an id that was used more than once."""
    starts = np.flatnonzero(records["row"] == 0)
    return int(starts[-1]) if len(starts) else 0


def _join(segment: AnswerSegment, places: NDArray[np.intp], item: Feedback, now: float, horizon_s: float) -> JoinResult:
    """Store the feedback on one request; of an id that was used more than once, the last answer counts.

    Raises:
        OSError: it cannot be stored; nothing is counted then.
    """
    result, at = JoinResult.empty(), item.at or item.came_at or now
    records = segment.at(places)
    first = _find_last(records)
    places, records = places[first:], records[first:]
    if at - float(records["at"][0]) > horizon_s:
        result.expired.append(segment.version)
        return result
    if item.reward is not None:
        _set_reward(segment.version, records[:1], item, item.reward, result)
    labels = item.label if isinstance(item.label, list) else [item.label]
    for index, label in enumerate(labels[: len(records)]):
        if label is not None:
            _set_label(segment.version, records[index : index + 1], label, at, result)
    result.joined = [replace(row, came_at=item.came_at) for row in result.joined]
    if result.joined or result.rewards:
        segment.write(places, records)
    return result


def _set_reward(version: str, record: Records, item: Feedback, reward: float, result: JoinResult) -> None:
    if record["marks"][0] & REWARDED:
        result.duplicates.append(version)
        return
    record["reward"] = reward
    record["marks"] |= REWARDED
    by_split = bool(record["marks"][0] & SPLIT)
    result.rewards.append(RewardedAnswer(version, reward, float(record["at"][0]), by_split, item.came_at))


def _set_label(version: str, record: Records, label: Any, at: float, result: JoinResult) -> None:
    if record["marks"][0] & LABELLED:
        result.duplicates.append(version)
        return
    token = label_token(label, int(record["form"][0]))
    if token is None:
        result.unusable.append(version)
        return
    record["label"], record["label_at"] = token, at
    record["marks"] |= LABELLED
    result.joined.append(_labelled_row(version, record[0]))


def _labelled_row(version: str, record: Mapping[str, Any]) -> LabelledRow:
    scores = tuple(float(score) for score in record["scores"])
    answer, label, at = float(record["answer"]), float(record["label"]), float(record["label_at"])
    by_split = bool(int(record["marks"]) & SPLIT)
    return LabelledRow(version, int(record["form"]), answer, scores, label, at, float(record["at"]), by_split)
