"""What pages say of a version: its admission report, lineage, signature and metadata, as names with values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeGuard

Document = Mapping[str, Any]
Fact = tuple[str, str]

MOST_OPERATORS: Final = 8
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def format_bytes(value: Any) -> str:
    """Return a number of bytes for people, "-" for anything else."""
    if not _is_number(value):
        return "-"
    amount, unit = float(value), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.3g} {_UNITS[unit]}"


def format_milliseconds(value: Any) -> str:
    """Return milliseconds for people, below one as microseconds, "-" for anything that is not a number."""
    if not _is_number(value):
        return "-"
    return f"{value * 1000:.3g} µs" if 0 < value < 1 else f"{value:.3g} ms"


def run_time_ms(version: Document) -> float | None:
    """Return the time of a run of one row at admission, in milliseconds; None if it was not measured."""
    value = _report(version).get("p50_us")
    return float(value) / 1000 if _is_number(value) else None


def memory_bytes(version: Document) -> Any:
    """Return the memory of a version at admission, None if it was not measured."""
    return _report(version).get("memory_bytes")


def sharing_text(version: Document) -> str:
    """Return why requests share runs of a version or not: what its workers do, else what its graph proves."""
    if version.get("batching"):
        return str(version["batching"])
    proof = _report(version).get("independent_rows")
    if not isinstance(proof, Mapping):
        return ""
    if proof.get("proven"):
        return "the graph proves that rows are independent"
    place = f" (at {proof['operator']} {proof.get('node', '')})".replace(" )", ")") if proof.get("operator") else ""
    return f"the graph does not prove that rows are independent: {proof.get('reason', '')}{place}"


def admission_facts(version: Document) -> list[Fact]:
    """Return what admission found, the verdict first; none without a report."""
    report = _report(version)
    if not report:
        return []
    refused = f"refused: {report.get('reason', '')}"
    facts = [
        ("verdict", "admitted" if report.get("verdict") == "admitted" else refused),
        ("requests share runs", sharing_text(version)),
        ("run time of one row", format_milliseconds(run_time_ms(version))),
        ("memory", format_bytes(memory_bytes(version))),
        ("operators", _operators_text(report.get("ops"))),
        ("run by", str(report.get("runtime") or "")),
    ]
    return [(name, text) for name, text in facts if text not in ("", "-")]


def lineage_of(versions: Sequence[Document], version: str) -> list[str]:
    """Return the versions from which one comes, the nearest first, as far as they are known."""
    parents = {item["version"]: item["metadata"].get("parent") for item in versions}
    line: list[str] = []
    parent = parents.get(version)
    while isinstance(parent, str) and parent != version and parent not in line:
        line.append(parent)
        parent = parents.get(parent)
    return line


def tensor_rows(version: Document) -> list[tuple[str, str, str, str]]:
    """Return name, side, datatype and shape of each input and output."""
    signature = version.get("signature") or {}
    return [
        (str(spec["name"]), side.removesuffix("s"), str(spec["datatype"]), shape_text(spec["shape"]))
        for side in ("inputs", "outputs")
        for spec in signature.get(side, ())
    ]


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape for people: ``[rows, 30]``."""
    sizes = [str(size) if size >= 0 else "any" if index else "rows" for index, size in enumerate(shape)]
    return f"[{', '.join(sizes)}]"


def flat_metadata(metadata: Document) -> Iterator[Fact]:
    """Yield the entries of metadata or of a card, those of groups with the name of the group."""
    for name, value in metadata.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", _value_text(item)) for key, item in value.items())
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _value_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {item}" for name, item in value.items())
    return str(value)


def compare_facts(first: Sequence[Fact], second: Sequence[Fact]) -> list[tuple[str, str, str, str]]:
    """Return name, both values, and whether they are the same, for every name of either."""
    one, other = dict(first), dict(second)
    return [
        (name, one.get(name, ""), other.get(name, ""), "same" if one.get(name) == other.get(name) else "differs")
        for name in {**one, **other}
    ]


def _report(version: Document) -> Document:
    report = version.get("admission")
    return report if isinstance(report, Mapping) else {}


def _operators_text(operators: Any) -> str:
    if not isinstance(operators, Mapping):
        return ""
    shown = [f"{name} x {count}" for name, count in list(operators.items())[:MOST_OPERATORS]]
    more = len(operators) - len(shown)
    return ", ".join([*shown, f"{more} more"] if more else shown)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
