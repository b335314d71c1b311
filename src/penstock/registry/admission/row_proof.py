"""The proof of row independence as the admission report keeps it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from penstock.core.batching import NOT_EXAMINED, RowProof
from penstock.core.texts import legible
from penstock.engine.row_independence.proof import prove
from penstock.registry.admission.plain_graph import read_plain

FACT = "independent_rows"
"""The name of the proof among the facts of an admission report."""

RULES = 2
"""Raised whenever a rule of ``engine.row_independence`` was wrong or one is new: proofs by other rules do not count."""

OTHER_RULES = "another release of Penstock examined its graph; push it as a new version to have that done anew"


def proof_of(graph: Path) -> RowProof:
    """The proof for the graph in a file that was admitted before."""
    return prove(read_plain(onnx.load(str(graph), load_external_data=False)))


def proof_out(proof: RowProof) -> dict[str, Any]:
    """A proof as JSON values: whether it succeeded, and else the operator it ended at and why."""
    return {
        "rules": RULES,
        "proven": proof.independent,
        "reason": legible(proof.reason),
        "operator": legible(proof.operator),
        "node": legible(proof.node),
        "rows_vary": proof.rows_vary,
    }


def proof_in(facts: Mapping[str, Any]) -> RowProof:
    """The proof among the facts of a report; none in reports of before it was looked for, or by other rules."""
    values = facts.get(FACT)
    if not isinstance(values, Mapping):
        return NOT_EXAMINED
    rows_vary = values["rows_vary"] is True
    if values.get("rules") != RULES:
        return RowProof(False, OTHER_RULES, rows_vary=rows_vary)
    return RowProof(values["proven"] is True, values["reason"], values["node"], values["operator"], rows_vary)
