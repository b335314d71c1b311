"""From found models and an operator's requests to the desired state."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.reconcile.planner import (
    MOST_UNLOADED,
    UNLOADED,
    ControllerState,
    MaterializedVersion,
    ObservedState,
    ReconcilePlan,
    SourceModel,
    decode_controller_state,
    encode_controller_state,
    has_pending_alias,
    next_expiry,
    plan,
)
from penstock.core.frames.terms import RowTerms
from penstock.core.versions import VersionPolicy


def found(name: str, *versions: str, tag: str = "a", config: str = "", **rest: object) -> SourceModel:
    materialized = {v: MaterializedVersion(f"/m/{name}/{v}", tag, f"/m/{name}", config) for v in versions}
    return SourceModel(name, materialized, **rest)  # type: ignore[arg-type]


def test_every_version_gets_a_block_of_its_own_and_keeps_it() -> None:
    first = plan([found("b", "1", "2"), found("a", "1")], ControllerState(), 10)
    blocks = {(m.name, v.version): v.block for m in first.desired.models for v in m.versions}
    assert sorted(blocks.values()) == [1, 2, 3]
    assert [model.name for model in first.desired.models] == ["a", "b"]
    second = plan([found("b", "2", "3")], first.state, 10)
    assert {v.version: v.block for v in second.desired.models[0].versions} == {"2": blocks["b", "2"], "3": 4}
    third = plan([found("a", "1")], second.state, 10)
    assert third.desired.models[0].versions[0].block == blocks["a", "1"]
    assert [member.desired.revision for member in (first, second, third)] == [1, 2, 3]


def test_many_unloaded_models_are_forgotten_once_their_source_has_them_no_more() -> None:
    gone = frozenset(f"gone-{number}" for number in range(MOST_UNLOADED - 1))
    few, many = (ControllerState(unloaded=gone | {"a", *more}) for more in ((), ("b",)))
    assert plan([found("a", "1")], few, 10).state.unloaded == few.unloaded
    planned = plan([found("a", "1")], many, 10)
    assert planned.state.unloaded == {"a"}
    assert planned.desired.models[0].versions == ()


def test_a_version_says_how_its_rows_look() -> None:
    version = MaterializedVersion("/m/1", "a", features=("age", "sex"), defaults={"age": 40})
    planned = plan([SourceModel("m", {"1": version})], ControllerState(), 10)
    assert planned.desired.models[0].versions[0].row_terms == RowTerms(("age", "sex"), {"age": 40})


def test_a_version_without_a_free_block_is_unavailable_and_says_why() -> None:
    planned = plan([found("m", "1", "2", "3")], ControllerState(), 2)
    model = planned.desired.models[0]
    assert [spec.version for spec in model.versions] == ["1", "2"]
    assert "counter block" in model.unavailable["3"]


def test_a_block_is_given_out_again_only_after_it_is_cleared() -> None:
    first = plan([found("old", "1")], ControllerState(), 1)
    assert plan([found("new", "1")], first.state, 1).desired.models[0].versions == ()
    again = plan([found("new", "1")], first.state, 1, ObservedState(reusable=[("old", "1")]))
    assert again.cleared == (1,)
    assert again.desired.models[0].versions[0].block == 1
    assert set(again.state.blocks) == {("new", "1")}


def test_every_block_is_cleared_when_it_is_given_out_and_never_while_it_is_used() -> None:
    first = plan([found("m", "1")], ControllerState(), 3)
    assert first.cleared == (first.state.blocks["m", "1"],)
    second = plan([found("m", "1", "2")], first.state, 3)
    assert second.cleared == (second.state.blocks["m", "2"],)
    assert plan([found("m", "1", "2")], second.state, 3).cleared == ()
    taken_back = replace(second.state, blocks={("m", "2"): second.state.blocks["m", "2"]})
    third = plan([found("m", "2", "3")], taken_back, 3)
    assert third.cleared == (first.state.blocks["m", "1"],) == (third.state.blocks["m", "3"],)


def test_a_block_in_use_is_not_given_away() -> None:
    first = plan([found("m", "1")], ControllerState(), 1)
    again = plan([found("m", "1", "2")], first.state, 1, ObservedState(reusable=[("m", "1")]))
    assert again.cleared == ()
    assert [spec.version for spec in again.desired.models[0].versions] == ["1"]


@given(st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("123")), max_size=8), max_size=6))
def test_no_two_versions_ever_share_a_block(rounds: list[list[tuple[str, str]]]) -> None:
    state, last = ControllerState(), 5
    for wanted in rounds:
        names = {name for name, _ in wanted}
        models = [found(name, *sorted({v for n, v in wanted if n == name})) for name in names]
        planned = plan(models, state, last, ObservedState(reusable=list(state.blocks)))
        state = planned.state
        used = [spec.block for model in planned.desired.models for spec in model.versions]
        assert len(used) == len(set(used))
        assert all(1 <= block <= last for block in used)
        assert len(set(state.blocks.values())) == len(state.blocks)
        reported = sum(len(model.versions) + len(model.unavailable) for model in planned.desired.models)
        assert reported == len(set(wanted))


def test_the_tag_changes_with_content_configuration_and_attempt() -> None:
    def tag(model: SourceModel, state: ControllerState | None = None) -> str:
        return plan([model], state or ControllerState(), 5).desired.models[0].versions[0].tag

    same = found("m", "1")
    tags = {tag(same), tag(found("m", "1", tag="b")), tag(found("m", "1", config='{"max_batch_size":2}'))}
    assert len(tags | {tag(same, ControllerState(attempts={"m": 1}))}) == 4
    assert tag(same) == tag(found("m", "1"))


def test_what_is_not_served_says_why() -> None:
    latest = VersionPolicy("latest", 1)
    models = [
        found("fine", "1"),
        found("bad", problem="no good"),
        found("half", "1", broken={"2": "no graph"}),
        found("newest", "1", "2", policy=latest),
        found("nothing"),
        found("out", "1"),
    ]
    state = ControllerState(unloaded=frozenset({"out"}), quarantine={("fine", "1"): "ended workers"})
    planned = {model.name: model for model in plan(models, state, 10).desired.models}
    assert planned["fine"].unavailable == {"1": "ended workers"}
    assert planned["bad"].unavailable == {"": "no good"}
    assert planned["half"].unavailable == {"2": "no graph"}
    assert [spec.version for spec in planned["half"].versions] == ["1"]
    assert planned["newest"].unavailable == {}
    assert [spec.version for spec in planned["newest"].versions] == ["2"]
    assert list(planned["nothing"].unavailable) == [""]
    assert planned["out"].unavailable == {"1": UNLOADED}
    assert planned["out"].versions == ()


names = st.text(max_size=5)


@given(
    st.builds(
        ControllerState,
        revision=st.integers(0),
        blocks=st.dictionaries(st.tuples(names, names), st.integers(1, 1023)),
        unloaded=st.frozensets(names),
        configs=st.dictionaries(names, names),
        attempts=st.dictionaries(names, st.integers(0)),
        quarantine=st.dictionaries(st.tuples(names, names), names),
        serving=st.frozensets(st.tuples(names, names)),
        warm=st.dictionaries(st.tuples(names, names), st.floats(0, 1e12)),
        aliases=st.dictionaries(names, st.dictionaries(names, names)),
    )
)
def test_the_state_of_the_controller_survives_being_stored(state: ControllerState) -> None:
    assert decode_controller_state(json.loads(json.dumps(encode_controller_state(state)))) == state


@pytest.mark.parametrize("stored", [{}, {"revision": 4}])
def test_a_partial_state_of_the_controller_is_as_at_the_beginning(stored: dict[str, int]) -> None:
    assert decode_controller_state(stored) == ControllerState(revision=stored.get("revision", 0))


LATEST = VersionPolicy("latest", 1)


def served(planned: ReconcilePlan) -> list[str]:
    return [spec.version for spec in planned.desired.models[0].versions]


def test_an_alias_keeps_its_version_served_and_moves_on_when_the_new_one_is_ready() -> None:
    first = plan([found("m", "1", "2", policy=LATEST, aliases={"champion": "1"})], ControllerState(), 5)
    assert served(first) == ["1", "2"]
    assert first.desired.models[0].aliases == {"champion": "1"}
    wanted = [found("m", "1", "2", "3", policy=LATEST, aliases={"champion": "3"})]
    second = plan(wanted, first.state, 5)
    assert second.desired.models[0].aliases == {"champion": "1"}
    assert served(second) == ["1", "3"]
    assert has_pending_alias(wanted, second.state)
    third = plan(wanted, second.state, 5, ObservedState(ready={("m", "3")}))
    assert third.desired.models[0].aliases == {"champion": "3"}
    assert served(third) == ["3"]
    assert not has_pending_alias(wanted, third.state)


@pytest.mark.parametrize(
    ("versions", "transition"), [(("2",), "availability"), (("1", "2"), "resources")], ids=["gone", "resources first"]
)
def test_an_alias_moves_at_once_where_its_old_version_cannot_stay(versions: tuple[str, ...], transition: str) -> None:
    first = plan([found("m", "1", aliases={"champion": "1"})], ControllerState(), 5)
    wanted = found("m", *versions, policy=LATEST, aliases={"champion": "2"}, transition=transition)
    second = plan([wanted], first.state, 5)
    assert second.desired.models[0].aliases == {"champion": "2"}
    assert served(second) == ["2"]


def test_what_the_policy_lets_go_stays_warm_for_a_while() -> None:
    first = plan([found("m", "1", policy=LATEST, keep_warm_s=60.0)], ControllerState(), 5, ObservedState(now=1000.0))
    newer = [found("m", "1", "2", policy=LATEST, keep_warm_s=60.0)]
    second = plan(newer, first.state, 5, ObservedState(now=1010.0))
    assert served(second) == ["1", "2"]
    assert next_expiry(second.state) == 1070.0
    third = plan(newer, second.state, 5, ObservedState(now=1069.0))
    assert served(third) == ["1", "2"]
    assert next_expiry(third.state) == 1070.0
    last = plan(newer, third.state, 5, ObservedState(now=1070.0))
    assert served(last) == ["2"]
    assert next_expiry(last.state) is None


def test_what_never_was_served_does_not_become_warm() -> None:
    model = found("m", "1", "2", policy=LATEST, keep_warm_s=60.0)
    assert served(plan([model], ControllerState(), 5)) == ["2"]


@pytest.mark.parametrize(
    "change",
    [{"transition": "resources"}, {"problem": "torn"}, {"keep_warm_s": 0.0}],
    ids=["resources first", "a problem", "no time"],
)
def test_nothing_stays_warm_where_it_must_not(change: dict[str, object]) -> None:
    first = plan([found("m", "1", policy=LATEST, keep_warm_s=60.0)], ControllerState(), 5)
    settings: dict[str, Any] = {"policy": LATEST, "keep_warm_s": 60.0, **change}
    assert "1" not in served(plan([found("m", "1", "2", **settings)], first.state, 5))


def test_a_version_taken_out_of_the_source_goes_at_once() -> None:
    first = plan([found("m", "1", "2", keep_warm_s=60.0)], ControllerState(), 5)
    assert served(plan([found("m", "2", keep_warm_s=60.0)], first.state, 5)) == ["2"]


def test_a_version_that_does_not_pass_is_withheld_unless_it_has_traffic() -> None:
    model = found("m", "1", "2", "3", aliases={"champion": "1"}, withheld=("1", "2", "3"))
    assert plan([model], ControllerState(), 10).desired.models[0].withheld == ("2", "3")
