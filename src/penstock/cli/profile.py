"""`penstock profile`: build a reference from training data for the monitor."""

import json
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.console import ExitCode, fail, print_json, say
from penstock.cli.options import AsJson
from penstock.cli.progress_bar import show_progress


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(profile)


def profile(
    data: Annotated[Path, typer.Argument(help="Training data: CSV, Parquet or npz.")],
    model: Annotated[Path, typer.Option(help="The ONNX graph that was trained on it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write the reference.")],
    config: Annotated[Path | None, typer.Option(help="The model's configuration (config.pbtxt).")] = None,
    files: Annotated[
        Path | None, typer.Option(help="The folder of its label files. [beside the configuration]")
    ] = None,
    label: Annotated[str, typer.Option(help="The column with the true label.")] = "",
    time: Annotated[str, typer.Option(help="The column with the time of each row, for baselines by the hour.")] = "",
    card: Annotated[
        Path | None, typer.Option(help="The model card, whose features are used if the graph names none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the model over its training data and write a reference: bins and counts, but no rows."""
    from penstock.config.documents import ConfigFault, read_document
    from penstock.core.errors import Fault
    from penstock.core.lineage import card_features
    from penstock.engine import model as engine
    from penstock.monitor.profile import make_reference as made
    from penstock.monitor.reference import encode_reference
    from penstock.monitor.tables import read_table
    from penstock.registry.admission import inspection
    from penstock.registry.config import model_config

    try:
        config_text = "" if config is None else config.read_text()
        parse = model_config.parse_json if config_text.lstrip().startswith("{") else model_config.parse_text
        text = parse(config_text)
        options = model_config.read(text, files or (config or model).parent)
        names = inspection.feature_names(model)
        described = () if card is None else card_features(read_document(card, "the model card"))
        table = read_table(data)
        loaded = engine.load(model, options, threads=1)
        with show_progress(data.name) as on_progress:
            reference = made(table, loaded, names, on_progress, label, described, time)
        output.write_text(json.dumps(encode_reference(reference)) + "\n")
    except (Fault, ConfigFault) as fault:
        fail(str(fault), ExitCode.USAGE)
    except OSError as error:
        fail(f"{error.filename}: {(error.strerror or 'error').lower()}", ExitCode.USAGE)
    if as_json:
        print_json({"digest": reference.digest, "rows": reference.rows, "file": str(output)})
        return
    say(f"{reference.rows} rows, {len(reference.inputs)} inputs, {len(reference.outputs)} outputs")
    if reference.errors is not None:
        wrong, right = reference.errors
        say(f"the model answered {right / (wrong + right):.1%} of the rows correctly")
    if reference.hours:
        say(f"the columns change with the hour: the reference has a baseline for each of {reference.hours} hours")
    elif varying := [feature.bins.name for feature in reference.features if feature.seasonal_variation]:
        say(
            f"{', '.join(varying[:8])} vary within the data, and drift of that size raises no alarm; "
            "pass a column of times with --time to get a baseline for each hour"
        )
    if reference.is_small:
        say("these are few rows: their sampling noise widens every threshold; use 10000 rows or more")
    typer.echo(reference.digest)
