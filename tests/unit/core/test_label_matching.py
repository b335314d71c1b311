"""Labels are compared only where every version was labelled at the same age for answers of the same time."""

import json
from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.label_matching import (
    OLDEST,
    WIDEST_S,
    LabelMatching,
    Stratum,
    StratumCell,
    age_class,
    age_limit_s,
    describe_delay,
)
from tests.budgets import examples

ARMS = ("1", "2")
FAR = 1e9


@dataclass(frozen=True)
class Label:
    version: str
    answered_s: float
    age_s: float
    value: float = 1.0


def labels(versions: tuple[str, ...] = ARMS, most: int = 40) -> st.SearchStrategy[list[Label]]:
    one = st.builds(
        Label,
        st.sampled_from(versions),
        st.floats(0, 5000),
        st.one_of(st.floats(0, 10), st.floats(0, 100_000)),
        st.sampled_from([0.0, 1.0]),
    )
    return st.lists(one, max_size=most)


def strata(labels: list[Label], *looks: float, versions: tuple[str, ...] = ARMS) -> list[Stratum]:
    """What is found when labels are added as they come, with looks at these times and one at the end."""
    matching, found = LabelMatching(versions), []
    moments = [(label.answered_s + label.age_s, 0, label) for label in labels] + [(at, 1, None) for at in looks]
    for at, _, label in sorted(moments, key=lambda item: item[:2]):
        if label is None:
            found += matching.close(at)
        else:
            matching.add(label.version, label.answered_s, label.age_s, label.value)
    return found + matching.close(FAR)


def counted(found: list[Stratum]) -> dict[str, int]:
    return {version: sum(item.sums[version][0] for item in found) for version in ARMS}


@given(labels(), st.randoms(use_true_random=False))
def test_the_order_in_which_labels_are_written_down_changes_nothing(labels: list[Label], random: Random) -> None:
    shuffled = list(labels)
    random.shuffle(shuffled)
    assert strata(shuffled) == strata(labels)


@given(labels(), st.lists(st.floats(0, 200_000), max_size=8))
def test_how_often_one_looks_changes_nothing(labels: list[Label], looks: list[float]) -> None:
    assert strata(labels, *looks) == strata(labels)


@given(labels(), labels(("2",), 300), st.integers(18, 24))
def test_a_delayed_batch_of_one_version_changes_nothing(labels: list[Label], batch: list[Label], age: int) -> None:
    delayed = [Label("2", item.answered_s, age_limit_s(age) * 0.5 + item.age_s % 1000, item.value) for item in batch]
    assert strata([*labels, *delayed]) == strata(labels)


@given(labels(), st.floats(200_000, 10_000_000))
def test_delaying_all_labels_of_one_version_leaves_nothing_to_compare(labels: list[Label], delay: float) -> None:
    delayed = [Label(label.version, label.answered_s, label.age_s + delay * (label.version == "2")) for label in labels]
    assert strata(delayed) == []


@settings(max_examples=examples(50))
@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=60))
def test_versions_that_are_labelled_alike_are_matched_whole(labels: list[tuple[float, float]]) -> None:
    both = [Label(version, answered, age) for answered, age in labels for version in ARMS]
    assert counted(strata(both)) == dict.fromkeys(ARMS, len(labels))


@given(labels())
def test_no_label_counts_twice_and_those_that_count_are_of_one_age_and_time(labels: list[Label]) -> None:
    matching = LabelMatching(ARMS)
    for label in labels:
        matching.add(label.version, label.answered_s, label.age_s, label.value)
    waited = sum(matching.waiting().values())
    found = matching.close(FAR)
    assert waited == len(labels)
    assert sum(counted(found).values()) + matching.unmatched == len(labels)
    assert not any(matching.waiting().values())
    for item in found:
        assert all(item.sums[version][0] for version in ARMS)
        same_age = [label for label in labels if age_class(label.age_s) == item.age]
        assert sum(count for count, _, _ in item.sums.values()) <= len(same_age)


@given(st.floats(0, 3e7))
def test_ages_of_a_class_differ_by_a_factor_of_two_at_most(age_s: float) -> None:
    age = age_class(age_s)
    assert age < OLDEST
    assert (age_limit_s(age) / 2 <= age_s or age == 0) and age_s < age_limit_s(age)


@given(st.integers(0, OLDEST - 1), st.integers(0, 10_000))
def test_cells_widen_up_to_a_bound_and_close_no_earlier_than_what_they_hold(age: int, index: int) -> None:
    cell, levels = StratumCell(age, 0, index), 0
    while (wider := cell.wider) is not None:
        assert wider.closes_s >= cell.closes_s
        assert wider.length_s <= max(WIDEST_S, age_limit_s(age))
        cell, levels = wider, levels + 1
    assert levels <= 11


def test_a_cell_counts_when_it_closes_and_not_before() -> None:
    matching = LabelMatching(ARMS)
    for version, value in (("1", 0.0), ("1", 1.0), ("2", 1.0)):
        matching.add(version, 4.5, 0.25, value)
    assert matching.close(5.99) == []
    assert matching.close(6.0) == [Stratum(6, 0, {"1": (2, 1.0, 1.0), "2": (1, 1.0, 1.0)})]
    matching.add("1", 4.6, 0.3, 1.0)  # joined a moment too late: it counts as of the age it has now
    matching.add("2", 4.6, 0.3, 1.0)
    assert [item.age for item in matching.close(FAR)] == [1]


def test_labels_of_slow_streams_find_each_other_in_a_longer_cell() -> None:
    labels = [Label("1", 10.0, 0.5), Label("2", 300.0, 0.5), Label("1", 5000.0, 0.5), Label("2", 9000.0, 0.5)]
    (found,) = strata(labels)
    assert (found.closed_s, counted([found])) == (513, {"1": 1, "2": 1})


def test_what_was_before_the_beginning_or_is_of_others_does_not_count() -> None:
    labels = [Label("1", -1.0, 2.0), Label("2", -1.0, 2.0), Label("3", 1.0, 0.5)]
    assert strata(labels) == []


@given(labels(), st.floats(0, 5000))
def test_what_is_kept_goes_on_as_it_was(labels: list[Label], at: float) -> None:
    first, second = LabelMatching(ARMS), None
    for label in labels:
        first.add(label.version, label.answered_s, label.age_s, label.value)
    first.close(at)
    second = LabelMatching.from_state(json.loads(json.dumps(first.export_state())))
    assert second.close(FAR) == first.close(FAR)
    assert second.unmatched == first.unmatched


def test_delays_are_shown_by_upper_bounds() -> None:
    assert describe_delay({}) is None
    assert describe_delay({0: 10, 3: 5, 10: 1}) == {"median_below": 1.0, "all_below": 1024.0}
    assert describe_delay({2: 1}) == {"median_below": 4.0, "all_below": 4.0}
