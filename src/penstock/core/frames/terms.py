"""What a version says about its rows: the names of its features, and the values that stand in for missing ones."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from penstock.core.tensors import Array

ExtraColumns = Literal["refuse", "ignore"]
"""What becomes of columns that a model does not take."""

Default = float | int | str | bool | None
"""A value that stands in for a missing one; None is NaN."""


@dataclass(frozen=True, slots=True)
class RowTerms:
    """The ``names`` of a version's features, in the order of its input, empty if nothing states them; the
    ``defaults`` of its model card by feature; and what becomes of ``extra_columns``."""

    names: tuple[str, ...] = ()
    defaults: Mapping[str, Default] = field(default_factory=dict)
    extra_columns: ExtraColumns = "refuse"


NO_TERMS: Final = RowTerms()

ROWS: Final = "rows"
"""The property of a model's V2 metadata that has its terms."""


def encode_terms(terms: RowTerms) -> str:
    """Return terms as JSON text, "" if there is nothing to say."""
    if terms == NO_TERMS:
        return ""
    document = {"names": terms.names, "defaults": dict(terms.defaults), "extra_columns": terms.extra_columns}
    return json.dumps(document, separators=(",", ":"))


def decode_terms(text: str) -> RowTerms:
    """Return terms from JSON text; a text that has none says nothing."""
    try:
        document = json.loads(text or "{}")
        return RowTerms(**{**document, "names": tuple(document.get("names", ()))})
    except (ValueError, TypeError, AttributeError):
        return NO_TERMS


def names_in_order(stated: tuple[str, ...], reference: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of features in the order of the input, from those that a graph or a model card has ``stated``
    and those of the ``reference``: a card may have them in another order than the data that a model was trained with.
    """
    return reference if not stated or set(stated) == set(reference) else stated


@dataclass(frozen=True, slots=True, eq=False)
class DefaultedColumn:
    """A column of which values were missing: its ``name``, where it lies (the ``tensor``, and the ``index`` in a row of
    it), and the ``rows`` [values] in which a default of the model card stands in, counted from 0."""

    name: str
    tensor: str
    index: int
    rows: Array


def card_defaults(card: Any) -> dict[str, Default]:
    """Return the defaults of the features in a model card, none if it states none, or is not a card."""
    features = card.get("features") if isinstance(card, Mapping) else None
    if not isinstance(features, Mapping):
        return {}
    return {
        name: described["default"]
        for name, described in features.items()
        if isinstance(name, str) and isinstance(described, Mapping) and is_default(described.get("default", described))
    }


def is_default(value: Any) -> bool:
    """Whether a value of a model card can be a default."""
    return value is None or type(value) in (bool, int, float, str)
