"""What served a model at a time, from the entries in force then."""

from typing import Any

from penstock.core.audit.explanation import ServingEvidence, change_of, explain_serving


def entry(seq: int, action: str, subject: str, after: Any, **fields: str) -> dict[str, Any]:
    stated = {"at": f"2026-11-{seq:02}", "actor": "ann", "reason": "", "method": "key", "key_id": "k1", **fields}
    return {"seq": seq, "action": action, "subject": f"models/m/{subject}", "after": after, **stated}


PUSHES = (
    entry(1, "version.add", "versions/1", {"digest": "sha256:1"}),
    entry(2, "version.add", "versions/2", {"digest": "sha256:2"}, actor="bob"),
    entry(3, "version.add", "versions/10", {"digest": "sha256:10"}),
    entry(4, "version.retire", "versions/10", {"standing": "retired"}),
)
ROUTE = entry(6, "rollout.step", "route", {"split": {"1": 9500, "2": 500}}, reason="step 2")
CHAMPION = entry(5, "alias.move", "aliases/champion", {"version": "1"})
NO_CHAMPION = entry(7, "alias.drop", "aliases/champion", None)


def test_a_route_decides_before_an_alias() -> None:
    trial = entry(7, "rollout.step", "rollouts/9", {"state": "running"})
    evidence = ServingEvidence(route=ROUTE, champion=CHAMPION, trial=trial, versions=PUSHES)
    document = explain_serving("m", "2026-11-30", evidence)
    assert (document["model"], document["at"], document["rule"]) == ("m", "2026-11-30", "route")
    assert document["serving"] == [
        {"version": "1", "weight": 9500, "digest": "sha256:1", "pushed_at": "2026-11-01", "pushed_by": "ann"},
        {"version": "2", "weight": 500, "digest": "sha256:2", "pushed_at": "2026-11-02", "pushed_by": "bob"},
    ]
    assert document["decided_by"] == {
        "seq": 6, "at": "2026-11-06", "actor": "ann", "action": "rollout.step", "reason": "step 2", "method": "key",
        "key_id": "k1",
    }  # fmt: skip
    assert document["trial"]["subject"] == "models/m/rollouts/9"
    assert (document["champion"], document["admitted"]) == ("1", ["1", "2"])


def test_without_a_route_the_alias_decides_and_without_it_the_newest_version() -> None:
    dropped = entry(8, "route.set", "route", None)
    document = explain_serving("m", "t", ServingEvidence(route=dropped, champion=CHAMPION, versions=PUSHES))
    assert (document["rule"], document["serving"][0]["version"]) == ("alias champion", "1")
    assert document["decided_by"]["seq"] == 5
    document = explain_serving("m", "t", ServingEvidence(champion=NO_CHAMPION, versions=PUSHES))
    assert (document["rule"], document["serving"][0]["version"]) == ("newest version", "2")
    assert (document["decided_by"]["actor"], document["champion"], document["trial"]) == ("bob", None, None)


def test_without_a_version_nothing_serves() -> None:
    document = explain_serving("m", "t", ServingEvidence(settings=entry(1, "model.configure", "settings", {"a": 1})))
    assert (document["rule"], document["serving"], document["decided_by"]) == ("none", [], None)
    assert document["settings"] == {"a": 1}


def test_a_model_that_was_unloaded_is_shown_so_until_it_is_loaded() -> None:
    unloaded, loaded = entry(8, "model.unload", "repository", None), entry(9, "model.load", "repository", None)
    document = explain_serving("m", "t", ServingEvidence(champion=CHAMPION, repository=unloaded))
    assert (document["rule"], document["unloaded_by"]["seq"]) == ("alias champion", 8)
    assert explain_serving("m", "t", ServingEvidence(repository=loaded))["unloaded_by"] is None


def test_a_version_whose_push_is_not_known_is_shown_without_it() -> None:
    document = explain_serving("m", "t", ServingEvidence(champion=CHAMPION))
    assert document["serving"] == [
        {"version": "1", "weight": 10_000, "digest": None, "pushed_at": None, "pushed_by": None}
    ]


def test_a_change_is_shown_without_empty_fields() -> None:
    assert change_of({"seq": 1, "at": "t", "actor": "ann", "action": "a", "reason": "", "address": None}) == {
        "seq": 1,
        "at": "t",
        "actor": "ann",
        "action": "a",
    }


def test_versions_are_in_their_own_order() -> None:
    versions = [entry(seq, "version.add", f"versions/{seq}", {"digest": f"sha256:{seq}"}) for seq in (10, 9)]
    document = explain_serving("m", "t", ServingEvidence(versions=versions))
    assert (document["admitted"], document["serving"][0]["version"]) == (["9", "10"], "10")
