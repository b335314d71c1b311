"""Prints a model and one version: settings, card, signature and admission report."""

from typing import Any

from penstock.cli.client import Document
from penstock.cli.console import data_console
from penstock.cli.formatting import date_of, size_text, state_text, table_of

ROWS = "independent_rows"

SHOWN_CLASSES = 20


def reason_suffix(version: Document) -> str:
    """Return the reason of a state after a colon; "" for none."""
    return f": {version['reason']}" if version["reason"] else ""


def show_model(model: Document) -> None:
    """Print a model and its versions."""
    console = data_console()
    console.print(f"{model['name']}  revision {model['revision']}")
    for name, value in model["settings"].items():
        console.print(f"  {name}: {value}")
    table = table_of("Version", "State", "Aliases", "Digest", "Pushed", "Reason")
    for version in model["versions"]:
        digest = (version["digest"] or "")[:19]
        aliases = ", ".join(version["aliases"])
        table.add_row(
            version["version"],
            state_text(version["state"]),
            aliases,
            digest,
            date_of(version["created_at"]),
            version["reason"],
        )
    console.print(table)


def show_version(model: str, version: Document) -> None:
    """Print one version."""
    console = data_console()
    console.print(f"{model}:{version['version']}  {version['state']}{reason_suffix(version)}")
    facts = {"digest": version["digest"], "size": size_text(version["size"]), "pushed": date_of(version["created_at"])}
    facts |= {"by": version["created_by"], "aliases": ", ".join(version["aliases"])}
    for name, value in facts.items():
        if value:
            console.print(f"  {name}: {value}")
    for item in version.get("signatures", []):
        console.print(f"  signature: {', '.join(item['signers']) or 'of no trusted signer'} ({item['digest'][:19]})")
    for item in version.get("approvals", []):
        console.print(f"  approved by: {item['actor']}{'' if item['counts'] else ' (an earlier content)'}")
    for side in ("inputs", "outputs"):
        for spec in (version["signature"] or {}).get(side, []):
            console.print(f"  {side[:-1]}: {spec['name']} {spec['datatype']} {spec['shape']}")
    admission = _admission_texts(version["admission"] or {})
    for title, section in (("card", version["card"]), ("metadata", version["metadata"]), ("admission", admission)):
        if section:
            console.print(f"{title}:")
            for name, value in section.items():
                console.print(f"  {name}: {_format_plain(value)}")


_GUARDS = {
    "guarded_divisions": "the least integer by -1 wraps around",
    "guarded_dimensions": "a dimension of size 0 is refused",
    "guarded_sizes": "a result of more than 2^28 elements is refused",
}
"""The effect of each kind of guard before operators, by its name in the admission report."""


def _admission_texts(report: Document) -> Document:
    """Return an admission report as texts."""
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
    """Return the text for an output that was a list of maps, with its first classes."""
    more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
    return f"{output} is a tensor of the probabilities of {', '.join(names[:SHOWN_CLASSES])}{more}"


def _proof_text(proof: Document) -> str:
    """Return whether the graph proves that rows are independent, or the reason and node where the proof failed."""
    if proof["proven"]:
        return "proven from the graph"
    node = f" (node {proof['node']})" if proof["node"] else ""
    return f"not proven: {proof['reason']}{node}"


def _format_plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key or 'ai.onnx'} {_inner_text(inner)}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _inner_text(value: Any) -> str:
    return f"({_format_plain(value)})" if isinstance(value, dict) else str(value)
