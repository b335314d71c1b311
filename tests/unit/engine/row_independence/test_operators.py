"""Every operator of the table in a graph that is proven, and does answer each row by itself; and what is not proven."""

import pytest

from penstock.engine.row_independence.operators import BY_DATA, REASONS, RULES
from penstock.engine.row_independence.proof import prove
from penstock.registry.admission.plain_graph import read_plain
from tests.unit.engine.row_independence import cases, cases_of_domains, cases_of_parts, cases_of_texts
from tests.unit.engine.row_independence.cases import Case
from tests.unit.engine.row_independence.cases_refused import REFUSED
from tests.unit.engine.row_independence.runs import apart, differs, feeds_for, together

PROVEN = [*cases.PROVEN, *cases_of_parts.PROVEN, *cases_of_domains.PROVEN, *cases_of_texts.PROVEN]
NOT_PROVEN = [*REFUSED, *cases_of_texts.REFUSED]
ROWS = (1, 2, 5)


@pytest.mark.parametrize("case", PROVEN, ids=str)
def test_a_graph_is_proven_and_answers_each_row_by_itself(case: Case) -> None:
    model = case.model()
    assert prove(read_plain(model)).reason == ""
    if case.runs:
        for seed, rows in enumerate(ROWS):
            feeds = feeds_for(model, rows, seed)
            assert differs(together(model, feeds), apart(model, feeds)) == ""


@pytest.mark.parametrize("case", NOT_PROVEN, ids=str)
def test_a_graph_is_not_proven(case: Case) -> None:
    proof = prove(read_plain(case.model()))
    assert not proof.independent
    assert proof.reason


@pytest.mark.parametrize("case", cases_of_texts.MIXING, ids=str)
def test_texts_that_share_a_run_are_answered_otherwise_there(case: Case) -> None:
    model = case.model()
    batches = [feeds_for(model, 5, seed) for seed in range(20)]
    assert any(differs(together(model, feeds), apart(model, feeds)) for feeds in batches)


def used(some: list[Case]) -> set[tuple[str, str]]:
    nodes = [node for case in some for node in read_plain(case.model()).nodes]
    return {(node.domain, node.op_type) for node in nodes}


def test_every_operator_of_the_table_is_tried() -> None:
    assert RULES.keys() - used(PROVEN) == set()


def test_every_operator_with_a_reason_is_tried() -> None:
    assert REASONS.keys() - used(NOT_PROVEN) == {("", "SequenceMap"), ("com.microsoft", "DynamicQuantizeLSTM")}
    assert {("", name) for name in BY_DATA} <= used(NOT_PROVEN)
    assert (REASONS.keys() | {("", name) for name in BY_DATA}) & RULES.keys() == set()
