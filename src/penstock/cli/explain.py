"""`penstock explain`: show how much each feature of some rows, or of a captured request, moved the answer."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.addresses import address_of, local_address
from penstock.cli.client import Document, RestClient
from penstock.cli.console import ExitCode, fail, print_json, say
from penstock.cli.explanation_table import show_explanation, show_importance
from penstock.cli.failures import end_on_failure
from penstock.cli.options import AsJson, split_name
from penstock.cli.predict_rows import report_defaults
from penstock.cli.requests import BadData, is_request, read_data, to_request
from penstock.cli.route import use_gateway
from penstock.cli.row_file import make_request, read_rows


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(explain)


def explain(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME[:V|@ALIAS]", help="The model, and a version or an alias. [the route decides]"),
    ],
    rows: Annotated[
        Path | None,
        typer.Option(
            "--rows",
            metavar="FILE",
            help="Rows by column name: .csv with a header, .jsonl, .json, .npy, .parquet or .arrow.",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Instead of rows, JSON, @FILE or -, as `penstock predict` takes it.")
    ] = None,
    captured: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Instead of rows, the id of a captured request.")
    ] = None,
    importance: Annotated[
        bool, typer.Option("--importance", help="Instead of rows, show which features matter, by recent live rows.")
    ] = False,
    version: Annotated[str, typer.Option(help="Instead of V or ALIAS in NAME.")] = "",
    against: Annotated[str, typer.Option(help="A version whose answer is subtracted: why do the two differ?")] = "",
    method: Annotated[str, typer.Option(help="auto, exact, enumeration or permutation.")] = "auto",
    output: Annotated[str, typer.Option(help="NAME or NAME:COLUMN of the output to explain.")] = "",
    background: Annotated[str, typer.Option(help="auto, live or reference: the rows to compare with.")] = "auto",
    budget_ms: Annotated[int, typer.Option(help="Milliseconds that it may take.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of random choices.", min=0)] = 0,
    top: Annotated[int, typer.Option(help="Features to show, the strongest first.", min=1)] = 10,
    url: Annotated[
        str | None, typer.Option(help="HOST:PORT or https://HOST:PORT. [default: as in the settings]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain predictions of a running gateway. With --id or --importance, --url is that of its ops port or
    unix:PATH."""
    name, version = _choose(name, version)
    if importance:
        _show_importance(name, version, url, top, as_json)
        return
    stated = {
        "method": method,
        "outputs": output,
        "background": background,
        "budget_ms": budget_ms,
        "seed": seed,
        "against": against.removeprefix("@"),
    }
    parameters: Document = {key: value for key, value in stated.items() if value != ""}
    try:
        if captured is not None:
            request, answer = None, _explain_captured(name, version, captured, parameters, url)
        else:
            request, answer = _explain_rows(name, version, (rows, data), parameters, url, budget_ms)
    except BadData as fault:
        fail(str(fault), ExitCode.USAGE)
    if as_json:
        print_json(answer)
        return
    say(f"{answer['model_name']} version {answer['model_version']}: {_describe_method(answer['parameters'])}")
    show_explanation(answer, request, top)


def _choose(name: str, version: str) -> tuple[str, str]:
    """Return the model and the version or alias ("": the route decides) that name and option state."""
    model, selector = split_name(name)
    if selector and version:
        fail("state the version in the name or with --version, not both", ExitCode.USAGE)
    return model, selector or version.removeprefix("@")


def _show_importance(name: str, version: str, url: str | None, top: int, as_json: bool) -> None:
    with use_gateway(url, None) as client:
        found = client.importance(name, version or None)
    if as_json:
        print_json(found)
    elif found.get("problem"):
        fail(f"the importance of features is not known: {found['problem']}", ExitCode.FAILURE)
    else:
        show_importance(found, top)


def _explain_captured(name: str, version: str, captured: str, parameters: Document, url: str | None) -> Document:
    with use_gateway(url, None) as client:
        return client.explain_captured(name, version, captured, parameters)


def _explain_rows(
    name: str,
    version: str,
    given: tuple[Path | None, str | None],
    parameters: Document,
    url: str | None,
    budget_ms: int,
) -> tuple[Document, Document]:
    """Return the request that was sent, and its answer."""
    address = address_of(url) if url else local_address("http")
    with end_on_failure(), closing(RestClient(address, 30.0 + budget_ms / 1000)) as client:
        request = _request(client.metadata(name, version), *given)
        request["parameters"] = {**request.get("parameters", {}), **parameters}
        return request, client.explain(name, version, request).document


def _request(metadata: Document, rows: Path | None, data: str | None) -> Document:
    if rows is not None:
        bound = read_rows(rows, metadata)
        report_defaults(bound)
        return make_request(bound.inputs)
    values = read_data(data, sys.stdin)
    return dict(values) if is_request(values) else to_request(values, metadata["inputs"])


def _describe_method(parameters: Document) -> str:
    """Return how an explanation was made, in one line."""
    how = f"{parameters['method']}, {'exact' if parameters['exact'] else 'sampled'}, {parameters['scale']}"
    kind, _, whose = str(parameters["background"]).partition(" ")
    compared = f"compared with {parameters['background_rows']} {kind} rows {whose}".rstrip()
    note = f"; {parameters['note']}" if parameters.get("note") else ""
    return f"{how} of '{parameters['output']}', {compared}{note}"
