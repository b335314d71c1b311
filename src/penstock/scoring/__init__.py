"""Offline scoring: the rows of a file or of a distributed job, by a version of the registry or by a gateway."""

from penstock.scoring.scorer import Scorer

__all__ = ["Scorer"]
