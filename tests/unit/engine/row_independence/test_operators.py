"""Every operator of the table in a graph that is proven, and does answer each row by itself; and what is not proven."""

import pytest

from penstock.engine.row_independence.operators import BY_DATA, REASONS, RULES
from penstock.engine.row_independence.proof import prove
from penstock.registry.plain_graph import read_plain
from tests.unit.engine.row_independence import cases, cases_of_domains, cases_of_parts
from tests.unit.engine.row_independence.cases import Case
from tests.unit.engine.row_independence.cases_refused import REFUSED
from tests.unit.engine.row_independence.runs import apart, differs, feeds_for, together

PROVEN = [*cases.PROVEN, *cases_of_parts.PROVEN, *cases_of_domains.PROVEN]
ROWS = (1, 2, 5)


@pytest.mark.parametrize("case", PROVEN, ids=str)
def test_a_graph_is_proven_and_answers_each_row_by_itself(case: Case) -> None:
    model = case.model()
    assert prove(read_plain(model)).reason == ""
    if case.runs:
        for seed, rows in enumerate(ROWS):
            feeds = feeds_for(model, rows, seed)
            assert differs(together(model, feeds), apart(model, feeds)) == ""


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_graph_is_not_proven(case: Case) -> None:
    proof = prove(read_plain(case.model()))
    assert not proof.independent
    assert proof.reason


def used(some: list[Case]) -> set[tuple[str, str]]:
    nodes = [node for case in some for node in read_plain(case.model()).nodes]
    return {(node.domain, node.op_type) for node in nodes}


def test_every_operator_of_the_table_is_tried() -> None:
    assert RULES.keys() - used(PROVEN) == set()


def test_every_operator_with_a_reason_is_tried() -> None:
    assert REASONS.keys() - used(REFUSED) == {("", "SequenceMap"), ("com.microsoft", "DynamicQuantizeLSTM")}
    assert {("", name) for name in BY_DATA} <= used(REFUSED)
    assert (REASONS.keys() | {("", name) for name in BY_DATA}) & RULES.keys() == set()
