"""What a request for an explanation may ask for, and the rules of its runs; pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InvalidInput, TooLarge, Unsupported
from penstock.core.signature import TensorSpec
from penstock.core.stated_numbers import number_fault
from penstock.core.tensors import Tensor
from penstock.core.texts import shorten

Floats = NDArray[np.float64]

METHODS: Final = ("auto", "exact", "enumeration", "permutation")
"""Methods by name: ``auto`` is the most exact one that the graph allows, ``exact`` computes from the graph's trees or
weights."""

BACKGROUNDS: Final = ("auto", "live", "reference")

DEFAULT_BUDGET_MS: Final = 1000
MOST_BUDGET_MS: Final = 60_000

MOST_ROWS: Final = 64
"""Rows of a request that are explained at a time."""

MOST_FEATURES: Final = 1024
"""Values of a row that can be explained."""

MOST_CELLS: Final = 1 << 16
"""Numbers of the attributions of one answer."""

BACKGROUND_ROWS: Final = 50
"""Rows that the features of a row are compared with."""

FEW_ROWS: Final = 20
"""Live rows below which the reference is the background, if there is one."""

RUN_NS: Final = 2_000_000
"""What a run of coalition rows may take, so that predictions wait no longer for their turn."""

FIRST_RUN_ROWS: Final = 16
MOST_RUN_ROWS: Final = 512

PREDICTIONS: Final = "predictions"
"""The parameter that asks for the predictions beside their explanations."""

FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})
ANSWER_MARGIN: Final = 0.05
"""The share of the time before the deadline that is left for the answer."""


@dataclass(frozen=True, slots=True)
class ExplanationOptions:
    """What is asked for: the ``method``, the ``output`` ("" = the first of probabilities or numbers) and its
    ``columns`` (() = all), the ``background``, the time in nanoseconds, the seed of random choices, and the version
    (``against``) whose answer is subtracted ("" = none). ``with_predictions``: the answer has the predictions too."""

    method: str = "auto"
    output: str = ""
    columns: tuple[int, ...] = ()
    background: str = "auto"
    budget_ns: int = DEFAULT_BUDGET_MS * 1_000_000
    seed: int = 0
    against: str = ""
    with_predictions: bool = False


class ExplanationRecord:
    """The explanation that a call asks for: its ``options``, and once it is made the ``parameters`` of its answer, such
    as the method, and the ``predictions``, if they are asked for."""

    __slots__ = ("options", "parameters", "predictions")

    def __init__(self, options: ExplanationOptions) -> None:
        self.options = options
        self.parameters: dict[str, str | bool | int] = {}
        self.predictions: Sequence[Tensor] = ()


def options_in(parameters: Mapping[str, Any]) -> ExplanationOptions:
    """Return what the parameters of a request ask for; parameters of other names are not looked at.

    Raises:
        InvalidInput: a value is none of those that are possible.
    """
    output, columns = _parse_output(parameters.get("outputs"))
    return ExplanationOptions(
        method=_read_choice(parameters, "method", METHODS),
        output=output,
        columns=columns,
        background=_read_choice(parameters, "background", BACKGROUNDS),
        budget_ns=_read_number(parameters, "budget_ms", DEFAULT_BUDGET_MS, 1, MOST_BUDGET_MS) * 1_000_000,
        seed=_read_number(parameters, "seed", 0, 0, (1 << 32) - 1),
        against=_read_text(parameters, "against"),
        with_predictions=parameters.get(PREDICTIONS) is True,
    )


def _read_choice(parameters: Mapping[str, Any], name: str, choices: Sequence[str]) -> str:
    value = parameters.get(name)
    if value is None:
        return choices[0]
    if value not in choices:
        raise InvalidInput(f"the parameter '{name}' must be one of {', '.join(choices)}")
    return str(value)


def _read_number(parameters: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = parameters.get(name)
    if value is None:
        return default
    if fault := number_fault(name, value, least, most, whole=True):
        raise InvalidInput(f"the parameter {fault}")
    return int(value)


def _read_text(parameters: Mapping[str, Any], name: str) -> str:
    value = parameters.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise InvalidInput(f"the parameter '{name}' must be a text")
    return value


def _parse_output(stated: Any) -> tuple[str, tuple[int, ...]]:
    """Return the output and the columns in a list such as ``"probabilities:1"``, or as ``["y:0", "y:2"]``."""
    if stated is None or stated == "":
        return "", ()
    items = stated.split(",") if isinstance(stated, str) else stated
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise InvalidInput("the parameter 'outputs' must be a text such as 'NAME' or 'NAME:COLUMN', or a list of them")
    found = [_output_and_column(item.strip()) for item in items]
    names = {name for name, _ in found}
    if len(names) != 1:
        raise InvalidInput("'outputs' names several outputs; ask for the explanation of one output at a time")
    columns = tuple(column for _, column in found if column is not None)
    return found[0][0], columns


def _output_and_column(text: str) -> tuple[str, int | None]:
    name, colon, column = text.rpartition(":")
    if colon and column.isdigit() and len(column) < 6:
        return name, int(column)
    return text, None


def choose_output(outputs: Sequence[TensorSpec], wanted: str) -> TensorSpec:
    """Return the output to explain: the wanted one, else the first of floating-point numbers.

    Raises:
        InvalidInput: there is no such output, or its values are not numbers.
        Unsupported: no output is of floating-point numbers.
    """
    numeric = [spec for spec in outputs if spec.datatype in FLOATS]
    if not wanted:
        if not numeric:
            raise Unsupported("no output of the model is of floating-point numbers; only such outputs are explained")
        return numeric[0]
    found = next((spec for spec in outputs if spec.name == wanted), None)
    if found is None or found not in numeric:
        names = ", ".join(f"'{spec.name}'" for spec in numeric) or "none"
        raise InvalidInput(f"the output '{shorten(wanted)}' cannot be explained; those that can: {names}")
    return found


def check_size(rows: int, features: int, columns: int = 1) -> None:
    """Check the size of an explanation.

    Raises:
        InvalidInput: there is no row, or no feature.
        TooLarge: there are too many rows, features, or numbers of the answer.
    """
    if not rows or not features:
        raise InvalidInput("there is nothing to explain; send at least one row with one value")
    if rows > MOST_ROWS:
        raise TooLarge(f"the request has {rows} rows; at most {MOST_ROWS} are explained at a time, send fewer")
    if features > MOST_FEATURES:
        raise TooLarge(f"a row has {features} values; explanations are for at most {MOST_FEATURES}")
    if rows * features * columns > MOST_CELLS:
        raise TooLarge(
            f"the answer would have {rows * features * columns} attributions, over {MOST_CELLS}; send fewer rows, or "
            "name the columns of the output in the parameter 'outputs'"
        )


def check_columns(columns: Sequence[int], width: int) -> None:
    """Check that an output of ``width`` columns has these; raises ``InvalidInput``."""
    if any(column >= width for column in columns):
        raise InvalidInput(f"the output has {width} columns, numbered from 0; 'outputs' asks for another one")


def budget_deadline_ns(now_ns: int, budget_ns: int, deadline_ns: int) -> int:
    """Return when the work must end: after its budget, and early enough to answer before the request's deadline."""
    left_ns = max(0, deadline_ns - now_ns)
    return now_ns + min(budget_ns, left_ns - int(left_ns * ANSWER_MARGIN))


def next_run_rows(rows: int, took_ns: int) -> int:
    """Return how many rows the next run may have, after one of ``rows`` rows took so long: at most twice as many."""
    if took_ns <= 0:
        return min(2 * rows, MOST_RUN_ROWS)
    return max(1, min(2 * rows, int(rows * RUN_NS / took_ns), MOST_RUN_ROWS))


def scale_of(predictions: Floats) -> str:
    """Return what numbers [rows, columns] of a model are: ``probability`` if each row is a distribution, else
    ``value``."""
    wide = predictions.ndim == 2 and predictions.shape[1] > 1
    if wide and np.all(predictions >= 0) and np.allclose(predictions.sum(axis=1), 1, atol=1e-3):
        return "probability"
    return "value"
