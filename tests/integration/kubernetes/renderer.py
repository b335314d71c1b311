"""Renders and lints a chart with Helm's library: a program of its own, with the library on its path.

Its arguments are the chart and the name of the release. It reads a list of values from standard input, and prints a
list of what Helm made of each.
"""

import importlib
import json
import sys
from typing import Any


def rendered(helm: Any, chart: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The files of the chart with these values, or why there are none; what lint says of them."""
    try:
        chart.validate_schema(values)
        files = chart.render(values, name=sys.argv[2], namespace="models")
    except helm.HelmError as error:
        return {"files": {}, "error": str(error), "warnings": []}
    report = importlib.import_module("helm_python.chart").lint(sys.argv[1], values, strict=True)
    notes = [message["error"] for message in report["messages"] if message["severity"] > 1]
    return {"files": files, "error": "", "warnings": [*notes, *report["errors"]]}


def main() -> None:
    """Render each of the values."""
    helm = importlib.import_module("helm_python")
    chart = helm.Chart.load(sys.argv[1])
    json.dump([rendered(helm, chart, values) for values in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
