"""The proof of row independence in the admission report."""

from collections.abc import Mapping
from typing import Any

from penstock.core.batching import NOT_EXAMINED, RowProof
from penstock.core.texts import make_legible

FACT = "independent_rows"
"""The name of the proof among the facts of an admission report."""

RULES = 2
"""Version of the rules of ``engine.row_independence``, raised for each corrected or new rule; older proofs are void."""

OTHER_RULES = "another release of Penstock examined its graph; push it as a new version to have it examined again"


def encode_proof(proof: RowProof) -> dict[str, Any]:
    """Return a proof as JSON values: whether it succeeded, or the operator at which it failed and why."""
    return {
        "rules": RULES,
        "proven": proof.independent,
        "reason": make_legible(proof.reason),
        "operator": make_legible(proof.operator),
        "node": make_legible(proof.node),
        "rows_vary": proof.rows_vary,
    }


def decode_proof(facts: Mapping[str, Any]) -> RowProof:
    """Return the proof among the facts of a report, NOT_EXAMINED in older reports, or a failed one by other rules."""
    values = facts.get(FACT)
    if not isinstance(values, Mapping):
        return NOT_EXAMINED
    rows_vary = values["rows_vary"] is True
    if values.get("rules") != RULES:
        return RowProof(False, OTHER_RULES, rows_vary=rows_vary)
    return RowProof(values["proven"] is True, values["reason"], values["node"], values["operator"], rows_vary)
