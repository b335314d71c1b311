"""`penstock predict`: send one request from the shell, by REST or gRPC."""

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from penstock.cli.addresses import address_of, local_address
from penstock.cli.client import Client, Document, InferReply, RestClient
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.failures import end_on_failure
from penstock.cli.requests import BadData, describe, is_request, read_data, to_request
from penstock.cli.tls import HTTPS


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(predict)


def predict(
    name: Annotated[str, typer.Argument(help="The model.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="JSON, @FILE or - for stdin: a V2 request, a mapping of input names to values, or, for a model with "
            "one input, its values alone."
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instead of --data, rows by column name: .csv with a header, .jsonl, .json, .npy, .parquet or .arrow.",
        ),
    ] = None,
    rows_per_request: Annotated[int, typer.Option(help="Rows of each request.", min=1, max=65_536)] = 100,
    version: Annotated[str, typer.Option(help="A version or an alias. [the route decides]")] = "",
    by_grpc: Annotated[bool, typer.Option("--grpc", help="Use gRPC instead of REST.")] = False,
    url: Annotated[
        str | None, typer.Option(help="HOST:PORT or https://HOST:PORT. [default: as in the settings]")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0.001)] = 30.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the V2 answer as JSON, or those to rows as JSON lines.")
    ] = False,
) -> None:
    """Send one prediction request to a running gateway, or the rows of a file."""
    try:
        with end_on_failure(), closing(_make_client(by_grpc, url, timeout)) as client:
            if rows is not None:
                _predict_rows(client, (name, version), rows, data, rows_per_request, as_json)
                return
            reply = client.infer(name, version, _request(client, name, version, data))
    except BadData as fault:
        fail(str(fault), ExitCode.USAGE)
    show(reply, as_json)


def _predict_rows(
    client: Client, model: tuple[str, str], rows: Path, data: str | None, rows_per_request: int, as_json: bool
) -> None:
    if data is not None:
        raise BadData("give either --data or --rows")
    from penstock.cli.predict_rows import predict_rows

    predict_rows(client, model, rows, rows_per_request, as_json)


def _make_client(by_grpc: bool, url: str | None, timeout_s: float) -> Client:
    if not by_grpc:
        return RestClient(address_of(url) if url else local_address("http"), timeout_s)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # no lines of the library: the command says why a call failed
    from penstock.cli.grpc_client import GrpcClient

    is_secure = url is not None and url.startswith(HTTPS)
    return GrpcClient(address_of(url) if url and is_secure else url or local_address("grpc"), timeout_s)


def _request(client: Client, name: str, version: str, argument: str | None) -> Document:
    if argument is None and sys.stdin.isatty():
        inputs = client.metadata(name, version)["inputs"]
        raise BadData(f"no data; give --data with {describe(inputs)}")
    data = read_data(argument, sys.stdin)
    if is_request(data):
        request: Document = data
        return request
    return to_request(data, client.metadata(name, version)["inputs"])


def show(reply: InferReply, as_json: bool) -> None:
    """Print an answer: its outputs on stdout, its version and route on stderr."""
    if as_json:
        print_json(reply.document)
        return
    say(f"{reply.document['model_name']} version {reply.version} ({reply.route})")
    data_console().print(_make_table(reply.document["outputs"]))


def _make_table(outputs: list[Document]) -> Table:
    """Return a column for each output; a line for each row if all outputs have the same first dimension."""
    heads = {tuple(output["shape"][:1]) for output in outputs}
    rows = next(iter(heads))[0] if len(heads) == 1 and heads != {()} else 1
    single_row = len(heads) != 1 or heads == {()}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for output in outputs:
        table.add_column(f"{output['name']} {output['datatype']} {output['shape']}")
    for row in range(rows):
        table.add_row(
            *(_format_cell(output["data"] if single_row else _find_part(output, row, rows)) for output in outputs)
        )
    return table


def _find_part(output: Document, row: int, rows: int) -> list[Any]:
    size = len(output["data"]) // rows
    part: list[Any] = output["data"][row * size : (row + 1) * size]
    return part


def _format_cell(values: list[Any]) -> str:
    return " ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values)
