"""When rows of gateways become a reference, and how many of each: a table of cases, and what holds for all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.live_references import (
    SILENT_S,
    WAIT_S,
    Contribution,
    DiscardContributions,
    GatheringState,
    LearnReference,
    decide,
    draw_counts,
)

MOST = 1000
EVEN = Contribution(MOST, 500)


@pytest.mark.parametrize(
    ("gathering", "wanted"),
    [
        (GatheringState({}, {"a": 0.0}, 0.0), None),
        (GatheringState({"a": EVEN}, {}, 0.0), LearnReference({"a": 1000})),
        (GatheringState({"a": EVEN}, {"a": 0.0}, 0.0), LearnReference({"a": 1000})),
        (GatheringState({"a": Contribution(1234, 1)}, {"a": 0.0}, 0.0), LearnReference({"a": 1234})),
        (GatheringState({"a": EVEN}, {"a": 0.0, "b": 0.0}, WAIT_S - 0.1), None),
        (GatheringState({"a": EVEN}, {"a": 0.0, "b": 0.0}, WAIT_S), LearnReference({"a": 1000}, ("b",))),
        (GatheringState({"a": EVEN}, {"a": 0.0, "b": SILENT_S + 0.1}, 0.0), LearnReference({"a": 1000})),
        (GatheringState({"a": EVEN, "gone": EVEN}, {"a": 0.0}, 0.0), LearnReference({"a": 500, "gone": 500})),
        (GatheringState({"a": EVEN, "b": Contribution(0, 0)}, {"a": 0.0, "b": 0.0}, 0.0), LearnReference({"a": 1000})),
        (
            GatheringState({"a": Contribution(900, 900), "b": Contribution(90, 90)}, {}, 0.0),
            LearnReference({"a": 900, "b": 90}),
        ),
        (
            GatheringState({"a": Contribution(900, 3), "b": Contribution(900, 1)}, {}, 0.0),
            LearnReference({"a": 750, "b": 250}),
        ),
        (
            GatheringState({"a": Contribution(200, 3), "b": Contribution(900, 1)}, {}, 0.0),
            LearnReference({"a": 200, "b": 800}),
        ),
        (
            GatheringState({"a": Contribution(900, 0), "b": Contribution(900, 0)}, {}, 0.0),
            LearnReference({"a": 500, "b": 500}),
        ),
        (GatheringState({"a": Contribution(0, 0)}, {"a": 0.0}, 0.0), DiscardContributions()),
        (GatheringState({"a": EVEN}, {"a": 0.0, "b": 0.0}, 0.0, has_reference=True), DiscardContributions()),
    ],
)
def test_what_is_done(gathering: GatheringState, wanted: LearnReference | DiscardContributions | None) -> None:
    assert decide(gathering, MOST) == wanted


contributions = st.dictionaries(
    st.sampled_from("abcdefgh"), st.builds(Contribution, st.integers(0, 2000), st.integers(0, 10**9)), max_size=8
)


@given(contributions, st.integers(1, 3000))
def test_draws_take_no_more_than_there_is_and_as_many_as_are_wanted(found: dict[str, Contribution], most: int) -> None:
    drawn = draw_counts(found, most)
    givers = {name: item for name, item in found.items() if item.rows}
    assert all(0 < number <= found[name].rows for name, number in drawn.items())
    if len(givers) > 1:
        assert sum(drawn.values()) == min(most, sum(giver.rows for giver in givers.values()))
    else:
        assert drawn == {name: giver.rows for name, giver in givers.items()}


@given(contributions, st.integers(1, 3000))
def test_gateways_with_rows_enough_give_them_in_proportion(found: dict[str, Contribution], most: int) -> None:
    """Whoever does not give all that it has gives as many rows a request as the others, to one row; whoever gives all
    gives no more than that."""
    givers = {name: item for name, item in found.items() if item.rows}
    if len(givers) < 2:
        return
    drawn = draw_counts(found, most)
    rates = {name: drawn.get(name, 0) / max(1, giver.answered) for name, giver in givers.items()}
    free = [name for name, giver in givers.items() if drawn.get(name, 0) < giver.rows]
    for item in free:
        for name, other in givers.items():
            weight = max(1, other.answered)
            assert drawn.get(name, 0) <= rates[item] * weight + 1 + weight / max(1, givers[item].answered)


@given(contributions, st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 100)), st.floats(0, 100), st.booleans())
def test_nothing_waits_for_ever_and_nothing_is_learned_twice(
    found: dict[str, Contribution], serving: dict[str, float], age_s: float, has_reference: bool
) -> None:
    action = decide(GatheringState(found, serving, age_s, has_reference), MOST)
    if has_reference:
        assert action == DiscardContributions()
    elif not found:
        assert action is None
    elif age_s >= WAIT_S or not set(serving) - set(found):
        assert action is not None
    if isinstance(action, LearnReference):
        assert not set(action.missing) & set(found)
        assert set(action.draws) <= set(found)
