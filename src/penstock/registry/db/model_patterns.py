"""Conditions of queries by the name of a model."""

import sqlalchemy as sa

from penstock.core.access.model_filter import ModelFilter


def match_models(column: sa.Column[str], visible: ModelFilter) -> sa.ColumnElement[bool]:
    """Return the condition that a row is of a visible model.

    A prefix is compared by ``substr``, as SQLite's ``LIKE`` takes a and A for the same.
    """
    if visible.is_everything:
        return sa.true()
    return sa.or_(sa.false(), *(_match_pattern(column, pattern) for pattern in visible.patterns))


def _match_pattern(column: sa.Column[str], pattern: str) -> sa.ColumnElement[bool]:
    if not pattern.endswith("*"):
        return column == pattern
    prefix = pattern.removesuffix("*")
    return sa.func.substr(column, 1, len(prefix)) == prefix
