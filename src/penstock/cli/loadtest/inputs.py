"""The requests of a load test: from a file of rows, from the reference of a model, or from its signature."""

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from penstock.cli.client import Document
from penstock.cli.loadtest.options import LoadTestOptions
from penstock.cli.requests import BadData, describe, is_request, to_request
from penstock.loadtest.inputs import REQUESTS, BadInputs, Draw, make_requests, match_columns, parse_shapes
from penstock.loadtest.reference import draw_columns

MOST_REQUESTS = 1000
"""The most different requests of a file; a load test goes through them again and again."""

_FLOATS = ("FP16", "FP32", "FP64", "BF16")
_WITHOUT_JSON = ("FP16", "BF16")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def requests_of(options: LoadTestOptions, inputs: Sequence[Document]) -> tuple[str, list[Document]]:
    """Return where the requests come from, and the requests for the inputs of a model.

    Raises:
        BadData: the file or the shapes do not fit the model.
        CallFailed: the gateway with the reference does not answer.
    """
    if not options.by_grpc and any(spec["datatype"] in _WITHOUT_JSON for spec in inputs):
        raise BadData(f"JSON cannot hold values of {' and '.join(_WITHOUT_JSON)}; use --grpc ({describe(inputs)})")
    if options.rows is not None:
        return options.rows.name, _from_file(options.rows, inputs, options.rows_per_request)
    columns = _read_reference(options) if options.reference else None
    try:
        columns = None if columns is None else match_columns(inputs, columns)
        shapes = parse_shapes(options.shapes)
        requests = make_requests(inputs, options.rows_per_request, shapes, options.seed, columns)
    except BadInputs as fault:
        raise BadData(str(fault)) from None
    return "signature" if columns is None else "reference", requests


def _read_reference(options: LoadTestOptions) -> Draw:
    from penstock.cli.addresses import ops_address
    from penstock.cli.admin_api_client import AdminApiClient

    model, version = options.model_and_version
    document = AdminApiClient(ops_address(options.reference or "")).monitor(model, version or None)
    columns = draw_columns(document.get("features", ()), REQUESTS * options.rows_per_request, options.seed)
    if not columns:
        raise BadData(f"the model {model} has no reference; push one with --reference, or leave the option out")
    return columns


def _from_file(file: Path, inputs: Sequence[Document], rows: int) -> list[Document]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            found = (
                _from_csv(csv.reader(opened), inputs, rows) if file.suffix == ".csv" else _from_lines(opened, inputs)
            )
            requests = list(islice(found, MOST_REQUESTS))
    except OSError as error:
        raise BadData(f"--rows: {file} cannot be read: {(error.strerror or 'error').lower()}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"--rows: {file} is not a text of rows: {error}") from None
    if not requests:
        raise BadData(f"--rows: {file} has no rows; expected {describe(inputs)}")
    return requests


def _from_lines(lines: Iterator[str], inputs: Sequence[Document]) -> Iterator[Document]:
    """Yield the request of each line: a V2 request, a mapping of input names to values, or the values of one input."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            yield data if is_request(data) else to_request(data, inputs)
        except ValueError as fault:
            raise BadData(f"--rows: line {number}: {fault}") from None


def _from_csv(lines: Iterator[list[str]], inputs: Sequence[Document], rows: int) -> Iterator[Document]:
    """Yield a request for every ``rows`` lines below the header."""
    header = next(lines, [])
    places = _find_columns(header, inputs)
    numbered = ((number, line) for number, line in enumerate(lines, 2) if line)
    while batch := list(islice(numbered, rows)):
        for number, line in batch:
            if len(line) != len(header):
                raise BadData(f"--rows: line {number}: expected {len(header)} cells (got {len(line)})")
        yield {"inputs": [_make_tensor(spec, places[spec["name"]], [line for _, line in batch]) for spec in inputs]}


def _find_columns(header: Sequence[str], inputs: Sequence[Document]) -> dict[str, list[int]]:
    """Return the columns of each input: by its name, by ``name[0]``, ``name[1]`` and so on, or all for one input."""
    at = {name.strip(): place for place, name in enumerate(header)}
    widths = {spec["name"]: _count_values(spec) for spec in inputs}
    wanted = {
        name: [name] if width == 1 else [f"{name}[{place}]" for place in range(width)] for name, width in widths.items()
    }
    if all(column in at for columns in wanted.values() for column in columns):
        return {name: [at[column] for column in columns] for name, columns in wanted.items()}
    if len(inputs) == 1 and len(header) == widths[inputs[0]["name"]]:
        return {inputs[0]["name"]: list(range(len(header)))}
    expected = ", ".join(f"{width} for {name}" for name, width in widths.items())
    raise BadData(
        f"--rows: the columns do not fit; expected {expected}, with the names of the inputs (got {len(header)}: "
        f"{', '.join(header[:5])}…)"
    )


def _count_values(spec: Document) -> int:
    """Return how many values of an input a row has; a further dimension of any size takes one."""
    return prod(size if size > 0 else 1 for size in spec["shape"][1:])


def _make_tensor(spec: Document, places: Sequence[int], batch: Sequence[Sequence[str]]) -> Document:
    shape = [len(batch), *(size if size > 0 else 1 for size in spec["shape"][1:])]
    data = [_parse_value(spec["datatype"], line[place].strip()) for line in batch for place in places]
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": data}


def _parse_value(datatype: str, text: str) -> Any:
    try:
        if datatype == "BYTES":
            return text
        if datatype == "BOOL":
            return _BOOLEANS[text.lower()]
        return float(text) if datatype in _FLOATS else int(text)
    except (KeyError, ValueError):
        raise BadData(f"--rows: expected a value of {datatype} (got '{text}')") from None
