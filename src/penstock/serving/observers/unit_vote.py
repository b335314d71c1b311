"""The vote of one request of a sticky split: whether it counts as evidence for a rollout or an experiment."""

from penstock.monitor.unit_votes import COUNTS, JUDGED, UnitVotes
from penstock.serving.infer_call import InferCall


class UnitVote:
    """The vote of one request; a ``CallObserver``, called before the others. See ``UnitVotes`` for ``tag`` and
    ``index``.
    """

    __slots__ = ("_place", "_tag", "_votes")

    def __init__(self, votes: UnitVotes, tag: int, index: int) -> None:
        self._votes = votes
        self._tag = tag
        self._place = index

    def offer(self, call: InferCall) -> None:
        """Set in a call whether it counts."""
        said = self._votes.answer(self._tag, self._place)
        call.counted, call.judged = bool(said & COUNTS), bool(said & JUDGED)

    def failure(self) -> bool:
        """Return whether a failure by the version counts."""
        return self._votes.failure(self._tag, self._place)
