"""Sends the rows of a file, in requests of bounded size, and prints the answers as rows."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from penstock.cli.client import Client, Document, InferReply, RestClient
from penstock.cli.console import say
from penstock.cli.requests import BadData
from penstock.cli.row_file import frame_of_answer, read_rows, split_requests
from penstock.core.texts import escape_terminal, make_legible

if TYPE_CHECKING:
    from penstock.core.frames.layout import BoundRows

WITHOUT_JSON = ("FP16", "BF16")
"""Datatypes that V2 has in binary form only."""


def predict_rows(client: Client, model: tuple[str, str], file: Path, size: int, as_json: bool) -> None:
    """Ask a model and version ("": the route decides) for the rows of a file, ``size`` of them in each request, and
    print its answers, in order: as CSV, or as JSON lines.

    Raises:
        BadData: the file cannot be read, or does not fit the model.
        CallFailed: the gateway refuses a request; the rows before it are printed.
    """
    metadata = client.metadata(*model)
    bound = read_rows(file, metadata)
    if isinstance(client, RestClient) and any(tensor.datatype in WITHOUT_JSON for tensor in bound.inputs):
        raise BadData(f"JSON cannot hold values of {' and '.join(WITHOUT_JSON)}; use --grpc")
    report_defaults(bound)
    versions: dict[str, int] = {}
    for request in split_requests(bound.inputs, _rows_of_request(metadata, size)):
        if isinstance(client, RestClient):
            request["parameters"] = {"non_finite": "null"}  # JSON has no NaN
        reply = client.infer(*model, request)
        rows = _print_rows(reply, as_json, header=not versions)
        answered = f"version {reply.version} ({reply.route})"
        versions[answered] = versions.get(answered, 0) + rows
    say(f"{model[0]}: " + ", ".join(f"{rows} rows by {answered}" for answered, rows in versions.items()))


def _rows_of_request(metadata: Document, size: int) -> int:
    """Return the rows of each request: as many as a model takes that has a fixed number of them."""
    fixed = [spec["shape"][0] for spec in metadata["inputs"] if spec["shape"] and spec["shape"][0] >= 0]
    return max(1, fixed[0]) if fixed else size


def report_defaults(bound: "BoundRows") -> None:
    """Say in how many rows a default of the model card stands in for a missing value."""
    for column in bound.defaulted:
        say(f"'{column.name}' is missing in {len(column.rows)} rows; the default of the model card stands in for it")


def _print_rows(reply: InferReply, as_json: bool, header: bool) -> int:
    """Print an answer, and return its rows."""
    from penstock.core.frames.csv_text import to_csv
    from penstock.core.frames.json_lines import to_json_lines

    frame = frame_of_answer(reply.document)
    text = escape_terminal(to_json_lines(frame)) if as_json else make_legible(to_csv(frame, header, end="\n"))
    typer.echo(text, nl=False)
    return frame.rows
