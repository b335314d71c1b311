"""What people are shown of a model and of one version: card, signature, admission."""

from typing import Any

from penstock.cli.client import Document
from penstock.cli.console import data_console
from penstock.cli.formatting import date_of, size_text, state_text, table_of

ROWS = "independent_rows"

SHOWN_CLASSES = 20


def reason_suffix(one: Document) -> str:
    """The reason of a state, after a colon; "" for none."""
    return f": {one['reason']}" if one["reason"] else ""


def show_model(model: Document) -> None:
    """Print a model and its versions."""
    console = data_console()
    console.print(f"{model['name']}  revision {model['revision']}")
    for name, value in model["settings"].items():
        console.print(f"  {name}: {value}")
    table = table_of("Version", "State", "Aliases", "Digest", "Pushed", "Reason")
    for one in model["versions"]:
        digest = (one["digest"] or "")[:19]
        aliases = ", ".join(one["aliases"])
        table.add_row(
            one["version"], state_text(one["state"]), aliases, digest, date_of(one["created_at"]), one["reason"]
        )
    console.print(table)


def show_version(model: str, one: Document) -> None:
    """Print one version."""
    console = data_console()
    console.print(f"{model}:{one['version']}  {one['state']}{reason_suffix(one)}")
    facts = {"digest": one["digest"], "size": size_text(one["size"]), "pushed": date_of(one["created_at"])}
    facts |= {"by": one["created_by"], "aliases": ", ".join(one["aliases"])}
    for name, value in facts.items():
        if value:
            console.print(f"  {name}: {value}")
    for side in ("inputs", "outputs"):
        for spec in (one["signature"] or {}).get(side, []):
            console.print(f"  {side[:-1]}: {spec['name']} {spec['datatype']} {spec['shape']}")
    admission = _admission_texts(one["admission"] or {})
    for title, section in (("card", one["card"]), ("metadata", one["metadata"]), ("admission", admission)):
        if section:
            console.print(f"{title}:")
            for name, value in section.items():
                console.print(f"  {name}: {_plain(value)}")


_GUARDS = {
    "guarded_divisions": "the least integer by -1 wraps around",
    "guarded_dimensions": "a dimension of size 0 is refused",
    "guarded_sizes": "a result of more than 2^28 elements is refused",
}
"""What tests before operators are for, by the name of the fact that tells of them."""


def _admission_texts(report: Document) -> Document:
    """What people read of an admission report."""
    texts = {name: fact for name, fact in report.items() if name != "probes" and fact != ""}
    if isinstance(proof := texts.get(ROWS), dict):
        texts[ROWS] = _proof_text(proof)
    if isinstance(cut := texts.get("zipmap"), dict):
        texts["zipmap"] = "cut; " + "; ".join(_classes_text(output, names) for output, names in cut.items())
    for name, meaning in _GUARDS.items():
        if guarded := texts.get(name):
            texts[name] = f"{', '.join(guarded)}; {meaning}"
    return texts


def _classes_text(output: str, names: list[str]) -> str:
    """What became of a list of maps, with the first of the classes."""
    more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    return f"{output} is a tensor of the probabilities of {', '.join(names[:SHOWN_CLASSES])}{more}"


def _proof_text(proof: Document) -> str:
    """Whether requests may share runs of a version by its graph, and where the proof ended."""
    if proof["proven"]:
        return "proven from the graph"
    node = f" (node {proof['node']})" if proof["node"] else ""
    return f"not proven: {proof['reason']}{node}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key or 'ai.onnx'} {inner}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
