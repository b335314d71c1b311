"""What the admission report says of rows, read back."""

import json

import pytest

from penstock.core.batching import NOT_EXAMINED, RowProof
from penstock.registry.admission.row_proof import FACT, OTHER_RULES, RULES, decode_proof, encode_proof

PROVEN = RowProof(True)
REFUSED = RowProof(False, "operator CumSum mixes rows", "node", "CumSum", rows_vary=True)


@pytest.mark.parametrize("proof", [PROVEN, REFUSED])
def test_a_proof_is_read_as_it_was_written(proof: RowProof) -> None:
    assert decode_proof({FACT: json.loads(json.dumps(encode_proof(proof)))}) == proof


@pytest.mark.parametrize("rules", [None, RULES - 1, RULES + 1, str(RULES)])
@pytest.mark.parametrize("proof", [PROVEN, REFUSED])
def test_a_proof_by_other_rules_does_not_count(proof: RowProof, rules: object) -> None:
    written = encode_proof(proof) | {"rules": rules}
    assert decode_proof({FACT: written}) == RowProof(False, OTHER_RULES, rows_vary=proof.rows_vary)
    del written["rules"]
    assert not decode_proof({FACT: written}).independent


def test_a_report_without_a_proof_counts_as_not_examined() -> None:
    assert decode_proof({}) == NOT_EXAMINED
