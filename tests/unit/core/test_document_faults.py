"""The whole text of each fault that a document of the core may have, and values at their limits."""

import math
from dataclasses import replace
from typing import Any

import pytest

from penstock.core.errors import InvalidInput
from penstock.core.gates import parse_gates
from penstock.core.lineage import card_of, metadata_of, metadata_of_pairs
from penstock.core.routing import parse_route
from penstock.core.sinks import SinkSpec, parse_sinks
from penstock.core.triggers.parsing import parse_condition, parse_limits
from penstock.core.triggers.rules import RuleLimits

# Documents.


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"data_digest": "md5:aa"}, "data_digest of metadata: expected sha256: and 64 hex digits"),
        ({"code_commit": "zz"}, "code_commit of metadata: expected 7 to 64 hex digits"),
        ({"parent": "champion"}, "parent of metadata: expected a version"),
        ({"source": ""}, "source of metadata: expected a text of 1 to 500 readable characters"),
        (
            {"parameters": {"a": [1]}},
            "parameters of metadata: expected names, each with a number, a flag or a short text",
        ),
        ({"metrics": {"a": "b"}}, "metrics of metadata: expected names, each with a number"),
        ({"frameworks": {"a": 1}}, "frameworks of metadata: expected names, each with its version"),
        ({"tags": {"!": 1}}, "tags of metadata: expected names, each with a number, a flag or a short text"),
        ({"card": 7}, "card of metadata: expected a model card"),
        ({"card": {"summary": "s", "owners": []}}, "owners of the model card: expected a list of short texts"),
        (
            {"card": {"summary": "s", "features": 1}},
            "features of the model card: expected names, each with what it means, or a description and a default",
        ),
        ({"colour": 1, "shape": 2}, "metadata has no field 'colour'; metadata has no field 'shape'"),
    ],
)
def test_a_fault_of_metadata_is_named(document: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        metadata_of(document)
    assert str(refused.value) == fault


def test_metadata_at_its_limits() -> None:
    most = {"tags": {f"k{number}": "x" for number in range(200)}, "source": "x" * 500, "parameters": {"a": "x" * 500}}
    assert metadata_of(most) == most
    assert card_of({"summary": "s" * 20_000, "owners": ["o"] * 200})["owners"] == ["o"] * 200
    for beyond in ({"summary": "s" * 20_001}, {"summary": "s", "owners": ["o"] * 201}):
        with pytest.raises(InvalidInput):
            card_of(beyond)
    with pytest.raises(InvalidInput):
        metadata_of({"parameters": {"a": "x" * 501}})
    faults = {f"f{number:02}": 1 for number in range(30)}
    with pytest.raises(InvalidInput) as refused:
        metadata_of(faults)
    assert str(refused.value).split("; ") == [f"metadata has no field 'f{number:02}'" for number in range(20)]
    assert metadata_of_pairs({"card": "c", "parameters": "p", "parameters.": "q"}) == {
        "tags": {"card": "c", "parameters": "p", "parameters.": "q"}
    }


@pytest.mark.parametrize(
    ("kind", "values", "fault"),
    [
        (
            "webhook",
            {"url": "ftp://a/b"},
            "'sinks.s.webhook.url' is not valid: an http or https address without a user in it",
        ),
        (
            "webhook",
            {"url": "http://u@a/b"},
            "'sinks.s.webhook.url' is not valid: an http or https address without a user in it",
        ),
        (
            "webhook",
            {"url": "http://a", "mode": "odd"},
            "'sinks.s.webhook.mode' is not valid: one of structured, binary",
        ),
        ("webhook", {}, "'sinks.s.webhook.url' is missing"),
        ("webhook", 7, "'sinks.s.webhook' must be an object"),
        (
            "nats",
            {"url": "http://a", "subject": "s"},
            "'sinks.s.nats.url' is not valid: a nats address without a user in it",
        ),
        ("file", {"path": "p", "mode": "a"}, "'sinks.s.file.mode' is not a setting"),
        ("file", {"path": "a\nb"}, "'sinks.s.file.path' is not valid: a text"),
        ("command", {"argv": []}, "'sinks.s.command.argv' is not valid: a list of texts"),
        (
            "command",
            {"argv": ["a"], "timeout_seconds": 0},
            "'sinks.s.command.timeout_seconds' is not valid: seconds up to a day",
        ),
        (
            "command",
            {"argv": ["a"], "timeout_seconds": 86_401},
            "'sinks.s.command.timeout_seconds' is not valid: seconds up to a day",
        ),
        ("github", {"repository": "a", "token_file": "t"}, "'sinks.s.github.repository' is not valid: a text"),
    ],
)
def test_a_fault_of_a_sink_is_named(kind: str, values: Any, fault: str) -> None:
    faults: list[str] = []
    assert parse_sinks({"s": {kind: values}}, faults) == {}
    assert faults == [fault]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("nats", {"url": "tls://a", "subject": "s"}),
        ("nats", {"url": "nats://a", "subject": "s"}),
        ("webhook", {"url": "https://a", "mode": "binary"}),
        ("command", {"argv": ["a"], "timeout_seconds": 86_400}),
        ("github", {"repository": "a/b", "token_file": "t"}),
    ],
)
def test_a_sink_that_is_valid(kind: str, values: dict[str, Any]) -> None:
    faults: list[str] = []
    assert parse_sinks({"s": {kind: values}}, faults) == {"s": SinkSpec(kind, values)}
    assert faults == []


def test_sinks_at_their_limits() -> None:
    file = {"file": {"path": "p"}}
    faults: list[str] = []
    assert len(parse_sinks({f"s{number}": file for number in range(16)}, faults)) == 16
    assert faults == []
    for stated, fault in (
        ({f"s{number}": file for number in range(17)}, "'sinks' must be an object of at most 16"),
        ([], "'sinks' must be an object of at most 16"),
        ({"1x": file}, "'sinks.1x' is not a valid name for a sink"),
    ):
        faults = []
        assert parse_sinks(stated, faults) == {}
        assert faults == [fault]


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"split": {"1": 5000, "2": 4999}}, "'split': the weights must sum to 10000, not 9999"),
        ({"split": {"1": 10_001, "2": -1}}, "'split': weights are whole numbers from 0 to 10000"),
        ({"split": {"a b": 10_000}}, "'split': 'a b' is not a version"),
        ({"split": {}}, '\'split\' must give versions their weights, such as {"1": 9500, "2": 500}'),
        ({"split": {"1": 10_000}, "sticky": "x-user"}, "'sticky' must be a header's name, such as header:x-user-id"),
        ({"split": {"1": 10_000}, "stable": "2"}, "'stable' must be a version of the split"),
        ({"split": {"1": 10_000}, "more": 1}, "'more' is not a field of a route"),
        (
            {"split": {"1": 10_000}, "shadow": [{"version": "2", "percent": 101}]},
            "'shadow': 'percent' must be a number from 0 to 100",
        ),
        ({"split": {"1": 10_000}, "shadow": [{"percent": 1}]}, "'shadow': each must have 'version' and 'percent'"),
        ({"split": {"1": 10_000}, "shadow": [{"version": "2"}] * 2}, "'shadow' must name each version once"),
        (
            {"split": {"1": 10_000}, "rules": [{"header": "h"}]},
            "'rules': each must have 'header', 'equals' and 'version'",
        ),
    ],
)
def test_a_fault_of_a_route_is_named(document: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_route(document)
    assert str(refused.value) == fault


def test_fields_that_a_route_may_be_sent_back_with() -> None:
    extra = dict.fromkeys(("reason", "revision", "set", "answers"), 1)
    plain = parse_route({"split": {"1": 10_000, "2": 0}})
    assert parse_route({"split": {"1": 10_000, "2": 0}, **extra}) == plain
    moved = parse_route({"split": {"2": 4000, "1": 6000}}, before=replace(plain, salt="s"))
    assert moved.salt == "s"


# Rules.


def nothing(_: str) -> Any:
    raise InvalidInput("no schedule")


KINDS = "all, any, not, drift, performance, concept, quality, schedule, age, labels, slo"


@pytest.mark.parametrize(
    ("stated", "fault"),
    [
        (7, f"'w' must be an object with one of {KINDS}"),
        ({"all": []}, "'w.all' must be a list of conditions"),
        ({"any": 1}, "'w.any' must be a list of conditions"),
        ({"not": {"speed": 1}}, "'w.not.speed' is not a condition"),
        ({"schedule": "x"}, "'w.schedule': no schedule"),
        ({"drift": 1}, "'w.drift' must be an object"),
        ({"drift": {"scope": "x"}}, "'w.drift.scope' must be one of features, outputs, joint, slices, any"),
        ({"drift": {"at_least": "1"}}, "'w.drift.at_least' must be a number"),
        ({"drift": {"at_least": math.inf}}, "'w.drift.at_least' must be a number"),
        ({"drift": {"more": 1}}, "'w.drift.more' is not a setting"),
        ({"performance": {"below": 1}}, "'w.performance.metric' names a metric"),
        ({"performance": {"metric": 1, "below": 1}}, "'w.performance.metric' must be a text"),
        ({"performance": {"metric": "f1"}}, "'w.performance' needs below, above or fallen_by"),
        ({"quality": {"violated": 1}}, "'w.quality.violated' must be true or false"),
        ({"age": {}}, "'w.age.days' must be a number"),
        ({"labels": {}}, "'w.labels.new_at_least' must be a number"),
        ({"slo": {"short_seconds": 59}}, "'w.slo' needs 60 <= short_seconds < long_seconds <= 86400"),
        ({"slo": {"short_seconds": 3600}}, "'w.slo' needs 60 <= short_seconds < long_seconds <= 86400"),
        ({"slo": {"long_seconds": 86_401}}, "'w.slo' needs 60 <= short_seconds < long_seconds <= 86400"),
        ({"slo": {"burn_rate": 0}}, "'w.slo.burn_rate' must be a number above 0"),
    ],
)
def test_a_fault_of_a_condition_is_named(stated: Any, fault: str) -> None:
    faults: list[str] = []
    assert parse_condition(stated, "w", faults, nothing) is None
    assert faults == [fault]


def test_conditions_at_their_limits() -> None:
    faults: list[str] = []
    found = parse_condition(
        {"slo": {"short_seconds": 60, "long_seconds": 86_400, "burn_rate": 0.1}}, "w", faults, nothing
    )
    assert found is not None
    nested: dict[str, Any] = {"drift": {}}
    for _ in range(8):
        nested = {"not": nested}
    assert parse_condition(nested, "w", faults, nothing) is not None
    assert faults == []
    assert parse_condition({"not": nested}, "w", faults, nothing) is None
    assert len(faults) == 1


@pytest.mark.parametrize(
    ("stated", "fault"),
    [
        (7, "'retraining' must be an object"),
        ({"budget_per_day": -1}, "'retraining.budget_per_day' must be a whole number from 0 to 1000"),
        ({"budget_per_day": 1.5}, "'retraining.budget_per_day' must be a whole number from 0 to 1000"),
        ({"timeout_seconds": 0}, "'retraining.timeout_seconds' must be a number from 1 to 7776000"),
        ({"quality_veto": 1}, "'retraining.quality_veto' must be true or false"),
        ({"escalate_after": 0}, "'retraining.escalate_after' must be a whole number from 1 to 1000"),
        ({"more": 1}, "'retraining.more' is not a setting"),
        (
            {"auto_rollout": {"to": "2"}},
            "'retraining.auto_rollout' is true, false or a rollout's settings without 'to' and 'from'",
        ),
        ({"gates": 1}, "'retraining.gates' must be an object"),
    ],
)
def test_a_fault_of_the_limits_is_named(stated: Any, fault: str) -> None:
    faults: list[str] = []
    assert parse_limits(stated, faults) == RuleLimits()
    assert faults == [fault]


def test_limits_of_rules() -> None:
    stated = {
        "budget_per_day": 1000,
        "timeout_seconds": 1,
        "quality_veto": False,
        "approval": True,
        "escalate_after": 1,
    }
    faults: list[str] = []
    assert parse_limits({**stated, "auto_rollout": True}, faults) == RuleLimits(1000, 1, False, 1, {}, True)
    assert parse_limits({"auto_rollout": {"steps": [1]}}, faults).auto_rollout == {"steps": [1]}
    assert parse_limits({"budget_per_day": 0}, faults).budget_per_day == 0
    assert faults == []


@pytest.mark.parametrize(
    ("stated", "fault"),
    [
        ({"max_bytes": 0}, "'g.max_bytes' must be a number above 0"),
        ({"sane": 1}, "'g.sane' must be true or false"),
        ({"card": [1]}, "'g.card' must be a list of fields of the model card"),
        (
            {"beats": {"metric": "m", "by": "x"}},
            "'g.beats' has a metric, a margin (by), and lower: true where less is better",
        ),
        (
            {"beats": {"metric": "m", "lower": 1}},
            "'g.beats' has a metric, a margin (by), and lower: true where less is better",
        ),
        ({"more": 1}, "'g.more' is not a gate"),
        ({"held_out": {"metric": "accuracy", "by": math.inf}}, "'g.held_out.by' must be a number"),
        ({"held_out": {"metric": "accuracy", "alpha": 0.6}}, "'g.held_out.alpha' must be a number from 0.0001 to 0.5"),
        (
            {"held_out": {"metric": "accuracy", "min_rows": 9}},
            "'g.held_out.min_rows' must be a whole number from 10 to 100000",
        ),
        (
            {"held_out": {"metric": "accuracy", "min_rows": 10.5}},
            "'g.held_out.min_rows' must be a whole number from 10 to 100000",
        ),
        ({"held_out": {"metric": "accuracy", "share": 1}}, "'g.held_out.share' must be a number from 0.01 to 0.9"),
        ({"held_out": {"metric": "accuracy", "more": 1}}, "'g.held_out.more' is not a setting"),
        (
            {"held_out": {"metric": "accuracy", "slices": {"columns": ["c"] * 9}}},
            "'g.held_out.slices.columns' must be a list of 1 to 8 names of inputs or features",
        ),
        (
            {"held_out": {"metric": "accuracy", "slices": {"floor": 0.5}}},
            "'g.held_out.slices.columns' must be a list of 1 to 8 names of inputs or features",
        ),
        (
            {"held_out": {"metric": "accuracy", "noise": {"sd": 11}}},
            "'g.held_out.noise.sd' must be a number from 0 to 10",
        ),
    ],
)
def test_a_fault_of_a_gate_is_named(stated: Any, fault: str) -> None:
    faults: list[str] = []
    parse_gates(stated, "g", faults)
    assert faults == [fault]


def test_gates_at_their_limits() -> None:
    faults: list[str] = []
    held_out = {"metric": "accuracy", "alpha": 0.5, "min_rows": 10, "share": 0.9, "slices": {"columns": ["c"] * 8}}
    found = parse_gates({"held_out": held_out, "beats": {"metric": "m", "by": 1, "lower": True}}, "g", faults)
    assert faults == []
    assert found.held_out is not None
    assert (found.held_out.alpha, found.held_out.least, found.held_out.columns) == (0.5, 10, ("c",) * 8)
