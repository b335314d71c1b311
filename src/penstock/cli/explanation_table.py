"""Shows an explanation in the terminal: for each row the features that moved the answer most, with bars."""

from typing import Any, Final

from penstock.cli.client import Document
from penstock.cli.console import data_console, say
from penstock.cli.formatting import table_of

BAR: Final = 20
"""Characters of the longest bar."""

MOST_ROWS: Final = 20
"""Rows that are shown."""


def show_explanation(answer: Document, request: Document | None, top: int) -> None:
    """Print the strongest ``top`` features of each row; ``request`` has their values, if it is known."""
    arrays = {item["name"]: item for item in answer["outputs"]}
    shape, features = arrays["attributions"]["shape"], arrays["features"]["data"]
    rows, columns = shape[0], shape[2] if len(shape) > 2 else 1
    values = None if request is None else _find_values(request, rows, len(features))
    console = data_console()
    for row in range(min(rows, MOST_ROWS)):
        predictions = arrays["prediction"]["data"][row * columns : (row + 1) * columns]
        column = max(range(columns), key=lambda index: predictions[index] or 0.0)
        base = arrays["base_value"]["data"][column]
        place = f", column {column}" if columns > 1 else ""
        console.print(
            f"row {row}{place}: {_format_value(predictions[column])} = {_format_value(base)} and what the features add"
        )
        moved = _of_row(arrays["attributions"]["data"], row, column, len(features), columns)
        errors = _of_row(arrays["error"]["data"], row, column, len(features), columns)
        console.print(_make_table(features, None if values is None else values[row], moved, errors, top))
    if rows > MOST_ROWS:
        say(f"{rows - MOST_ROWS} more rows are not shown; --json prints all")


def show_importance(found: Document, top: int) -> None:
    """Print the ``top`` features that matter most, with their state."""
    window = found["window"]
    say(
        f"{found['model']} version {found['version']}: mean size of attributions of '{found['output']}' "
        f"({found['scale']}), {window['rows']} rows of the last {window['seconds']:g} s"
    )
    table = table_of("Feature", "Importance", "Share", "At first", "State", "")
    most = max((item["importance"] for item in found["features"]), default=0.0) or 1.0
    for item in found["features"][:top]:
        first = _format_value(item["reference"]) if "reference" in item else ""
        bar = "█" * round(item["importance"] / most * BAR)
        cells = _format_value(item["importance"]), f"{item['share']:.1%}", first, item.get("state", "")
        table.add_row(item["name"], *cells, bar)
    data_console().print(table)


def _of_row(data: list[float], row: int, column: int, features: int, columns: int) -> list[float]:
    """Return the numbers of one row and one column, by feature."""
    start = row * features * columns + column
    return [value or 0.0 for value in data[start : start + features * columns : columns]]


def _make_table(
    features: list[str], values: list[Any] | None, moved: list[float], errors: list[float], top: int
) -> Any:
    heads = ["Feature", *(["Value"] if values is not None else []), "Adds", *(["±"] if any(errors) else []), ""]
    table, most = table_of(*heads), max(map(abs, moved), default=0.0) or 1.0
    order = sorted(range(len(features)), key=lambda index: -abs(moved[index]))
    for index in order[:top]:
        cells = [
            features[index],
            *([_format_value(values[index])] if values is not None else []),
            f"{moved[index]:+.4g}",
        ]
        cells += [f"{errors[index]:.2g}"] if any(errors) else []
        table.add_row(*cells, _draw_bar(moved[index] / most))
    if len(order) > top:
        rest = sum(moved[index] for index in order[top:])
        blanks = [""] if values is not None else []
        table.add_row(f"{len(order) - top} more", *blanks, f"{rest:+.4g}", *([""] if any(errors) else []), "")
    return table


def _draw_bar(share: float) -> str:
    """Return a bar for a share of the strongest: to the left for less, to the right for more."""
    length = round(abs(share) * BAR / 2)
    return " " * (BAR // 2 - length) + "█" * length + "│" if share < 0 else " " * (BAR // 2) + "│" + "█" * length


def _find_values(request: Document, rows: int, features: int) -> list[list[Any]] | None:
    """Return the values of each row in the order of the features; None if they cannot be laid out so."""
    found: list[list[Any]] = [[] for _ in range(rows)]
    for tensor in request["inputs"]:
        data = _flatten(tensor["data"])
        size = len(data) // rows
        for row in range(rows):
            found[row] += data[row * size : (row + 1) * size]
    return found if all(len(row) == features for row in found) else None


def _flatten(data: Any) -> list[Any]:
    return [leaf for item in data for leaf in _flatten(item)] if isinstance(data, list) else [data]


def _format_value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
