"""What is remembered of exams: every one counts, for one champion."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.exams import MOST_REMEMBERED, Exams, decode_exams, encode_exams
from penstock.core.triggers.state import RuleState, decode_rule_state, encode_rule_state


def test_exams_count_for_one_champion() -> None:
    exams = Exams().begun("2", "1", "a").with_result("2", "1", ["worse"]).begun("3", "1", "a")
    assert exams.count == 2
    assert exams.result("2", "1", "a") == ("worse",)
    assert exams.result("2", "1", "b") is None  # other gates: another exam
    assert exams.result("3", "1", "a") is None  # it has not ended
    assert exams.result("2", "9", "a") is None
    again = exams.begun("4", "3", "a")
    assert (again.against, again.count, set(again.results)) == ("3", 1, {"4"})
    assert again.with_result("2", "1", []) == again


def test_one_that_is_examined_again_counts_again() -> None:
    assert Exams().begun("2", "1", "a").begun("2", "1", "b").count == 2


@given(st.lists(st.integers(0, 200).map(str), max_size=120))
def test_what_is_remembered_is_bounded_and_survives(versions: list[str]) -> None:
    exams = Exams()
    for version in versions:
        exams = exams.begun(version, "1", "a").with_result(version, "1", ["late"] if int(version) % 2 else [])
    assert exams.count == len(versions)
    assert len(exams.results) <= MOST_REMEMBERED
    assert decode_exams(encode_exams(exams)) == exams
    assert decode_rule_state(encode_rule_state(RuleState(exams=exams))).exams == exams
