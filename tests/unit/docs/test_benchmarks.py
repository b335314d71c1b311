"""The ratios on the page of the benchmarks are those of its data."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "benchmarks.md").read_text()
ABSENT = "\N{EN DASH}"
PYTHON_JSON = ("fastapi", "litserve json", "bentoml json", "kserve json", "mlserver json")
PYTHON_GRPC = ("kserve grpc", "mlserver grpc")
Rows = dict[tuple[str, str, str], list[str]]


def rows_of_the_data() -> Rows:
    """Model, load and server of each row of the data, to its other cells."""
    rows: Rows = {}
    model = load = ""
    for line in (DOCS / "benchmarks-data.md").read_text().splitlines():
        if line.startswith("## "):
            model = line.removeprefix("## ")
        elif line.startswith("### "):
            load = line.removeprefix("### ")
        elif line.startswith("| "):
            server, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[model, load, server] = cells
    return rows


ROWS = rows_of_the_data()


def rate(model: str, server: str) -> float:
    return float(ROWS[model, "32 connections", server][0].replace(",", ""))


def latency(model: str, server: str) -> float:
    return float(ROWS[model, "1 connection", server][1])


def ratios(model: str) -> list[str]:
    """The cells of a row of the page."""

    def against(path: str, *servers: str) -> float:
        return rate(model, f"penstock {path}") / max(rate(model, server) for server in servers)

    ceilings = [
        f"{against(path, f'batched {path}'):.2f}" if (model, "32 connections", f"batched {path}") in ROWS else ABSENT
        for path in ("json", "binary", "grpc")
    ]
    others = [against("json", *PYTHON_JSON), against("grpc", *PYTHON_GRPC), against("binary", "triton binary")]
    slower = latency(model, "penstock binary") / latency(model, "batched binary")
    return [*ceilings, *(f"{ratio:.1f}" for ratio in others), f"{slower:.2f}"]


@pytest.mark.parametrize("model", ["tiny", "gbm", "mlp", "transformer", "cnn", "large"])
def test_a_row_of_ratios_is_that_of_the_data(model: str) -> None:
    row = re.search(rf"^\| {model} \| (.*) \|$", PAGE, re.MULTILINE)
    assert row
    assert row[1].split(" | ") == ratios(model)


def test_the_rates_in_the_text_are_those_of_the_data() -> None:
    rates = {ROWS["tiny", "32 connections", f"penstock {path}"][0] for path in ("json", "grpc")}
    assert set(re.findall(r"\d+,\d{3}", PAGE)) == rates
