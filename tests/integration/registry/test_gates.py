"""No path leads a version past its gates: operations of every kind in any order, over a real database, real rollouts
and real signatures; what each version may do is computed beside them."""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from penstock.control.delivery.rollouts import Rollouts
from penstock.control.delivery.routes import RouteAdmin
from penstock.core.errors import Fault, Refused
from penstock.core.model_signing import SignatureMode, SignaturePolicy, TrustedSigner
from penstock.core.routing import POINTS, parse_route
from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.records import AdmissionReport, Author, Content, FileRecord, ModelRecord, VersionRecord
from penstock.registry.signed_versions import SignedVersions
from penstock.registry.signing import keys
from penstock.registry.signing.bundle import Bundle, encode_bundle, statement_of
from penstock.registry.stores.audit_questions import AuditQuestions
from penstock.registry.stores.monitor import MonitorStore
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.retention import RetentionStore
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import VersionStore
from tests.budgets import examples
from tests.unit.control.trials import ME, VERSIONS, World
from tests.unit.registry.signing.keys_of_tests import private_key

PUSHER, ANN, BOB = Author("pusher"), Author("ann", "looks good"), Author("bob")
TRUSTED, FOREIGN = private_key("P-256", 0), private_key("P-256", 1)
POLICY = SignaturePolicy(SignatureMode.REQUIRE, (TrustedSigner("ci", keys.public_pem(TRUSTED)),))
GATES = {"card": ["summary"], "metrics": {"accuracy": {"at_least": 0.9}}, "provenance": ["code_commit"], "approvals": 1}
STEPS = {"steps": [1000, 5000, 10000], "min_step_seconds": 1, "guards": ["errors"]}
version_names = st.sampled_from(VERSIONS)


def digest_of(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()


def bundle_of(version: str, key: Any = TRUSTED) -> str:
    payload = statement_of({"model.onnx": digest_of(version)}, "m", (), "", "")
    unsigned = Bundle(payload, b"", keys.compute_fingerprint(key))
    return encode_bundle(Bundle(payload, keys.sign(key, unsigned.signed_bytes), unsigned.hint))


BUNDLES = {(version, key): bundle_of(version, key) for version in VERSIONS for key in (TRUSTED, FOREIGN)}


def record_of(version: str, metadata: dict[str, Any]) -> VersionRecord:
    digest = digest_of(version)
    content = Content(f"sha256:{digest}", 3, "onnx", (FileRecord("model.onnx", digest, 3),))
    return VersionRecord(
        "m",
        version,
        content,
        "2026-11-20T10:00:00.000+00:00",
        PUSHER.actor,
        metadata=metadata,
        report=AdmissionReport(),
    )


def metadata_of(card: bool, accuracy: float, commit: bool) -> dict[str, Any]:
    parts: dict[str, Any] = {"metrics": {"accuracy": accuracy}}
    parts |= {"card": {"summary": "s"}} if card else {}
    return parts | ({"code_commit": "abcdef0"} if commit else {})


def shares_of(record: ModelRecord) -> dict[str, float]:
    """How much of the unnamed and aliased traffic each version gets, as operators have decided it."""
    champion = record.aliases.get("champion")
    shares = {alias.version: 0.5 for alias in record.aliases.values()}
    if record.route is not None:
        shares |= {item.version: max(shares.get(item.version, 0.0), item.percent) for item in record.route.shadow}
        for version, weight in record.route.split.items():
            shares[version] = max(shares.get(version, 0.0), float(weight))
    elif champion is not None:
        shares[champion.version] = float(POINTS)
    return {version: share for version, share in shares.items() if share}


class GateMachine(RuleBasedStateMachine):
    """Operations on one model, and beside them what each version has."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.open()
        self.gates: dict[str, Any] = {}
        self.metadata: dict[str, dict[str, Any]] = {}
        self.signed: set[str] = set()
        self.approved: set[str] = set()
        self.retired: set[str] = set()
        self.shares: dict[str, float] = {}
        self.before_rollout: set[str] = set()

    def open(self) -> None:
        """Make everything that a gateway makes when it starts."""
        self.store = VersionStore(self.world.database, self.world.clock)
        self.traffic = TrafficStore(self.world.database, self.world.clock)
        self.signatures = SignedVersions(POLICY, self.store)
        fleet = self.world.fleet
        self.routes = RouteAdmin(self.store, self.traffic, fleet)
        self.rollouts = Rollouts(self.traffic, fleet, "a", fleet.labels, clock=self.world.clock)

    def close(self) -> None:
        self.rollouts.close()
        self.routes.close()

    def teardown(self) -> None:
        self.close()
        blobs = FolderBlobs(Path(self.folder.name))
        differences = AuditQuestions(self.world.database, lambda: blobs).compare_state()
        self.world.database.close()
        self.folder.cleanup()
        assert differences == []  # whatever happened, the registry is what its audit states

    # What a version has, computed apart from the code under test.

    def passes(self, version: str) -> bool:
        metadata = self.metadata.get(version)
        if metadata is None or version not in self.signed:
            return False
        if not self.gates:
            return True
        good = "card" in metadata and "code_commit" in metadata and metadata["metrics"]["accuracy"] >= 0.9
        return good and version in self.approved

    def attempt(self, work: Callable[[], Any], returns: bool = False) -> None:
        """Do something that may be refused, and check who has gained traffic by it.

        ``returns``: it may bring back the traffic from before a rollout.
        """
        self.world.fleet.ill = set(VERSIONS) - (self.metadata.keys() & self.signed)  # they cannot be loaded
        with suppress(Fault):
            work()
        asyncio.run(self.world.fleet.serve_changes())
        now = self.shares_now()
        gaining = {version for version, share in now.items() if share > self.shares.get(version, 0.0)}
        back = self.before_rollout | self.aliased() if returns else set()
        wrong = {version for version in gaining - back if not self.passes(version)}
        assert not wrong, f"version {wrong} gained traffic without passing its gates"
        self.shares = now

    def shares_now(self) -> dict[str, float]:
        record = self.record()
        shares = shares_of(record)
        able = [item for item in sorted(self.metadata.keys() & self.signed) if not self.gates or self.passes(item)]
        if record.route is None and "champion" not in record.aliases and able:
            shares[able[-1]] = float(POINTS)  # the newest that may answers
        return shares

    def aliased(self) -> set[str]:
        return {alias.version for alias in self.record().aliases.values()}

    def record(self) -> ModelRecord:
        return next((item for item in self.store.models() if item.name == "m"), ModelRecord("m", 0))

    def trial(self) -> Any:
        return self.traffic.open_trial("m")

    # Operations.

    @initialize(gated=st.booleans())
    def start(self, gated: bool) -> None:
        self.set_policy(gated)

    @rule(gated=st.booleans())
    def set_policy(self, gated: bool) -> None:
        self.gates = GATES if gated else {}
        MonitorStore(self.world.database, self.world.clock).set_policy("m", {"gates": self.gates}, ME)
        self.shares = self.shares_now()

    @rule(version=version_names, card=st.booleans(), accuracy=st.sampled_from([0.8, 0.95]), commit=st.booleans())
    def push(self, version: str, card: bool, accuracy: float, commit: bool) -> None:
        if version not in self.metadata.keys() | self.retired:
            metadata = metadata_of(card or accuracy > 0.9, accuracy, commit or accuracy > 0.9)
            self.store.add_version(record_of(version, metadata), PUSHER)
            self.metadata[version] = metadata
        self.attempt(lambda: None)

    @rule(version=version_names, foreign=st.booleans(), of=version_names)
    def sign(self, version: str, foreign: bool, of: str) -> None:
        """Add a signature: by a key that is not trusted, or of another version's content, it must not count."""
        with suppress(Refused):
            self.signatures.add("m", version, BUNDLES[of, FOREIGN if foreign else TRUSTED], ME)
        if not foreign and of == version:
            self.signed.add(version)
        self.attempt(lambda: None)

    @rule(version=version_names, by=st.sampled_from([PUSHER, ANN, BOB]))
    def approve(self, version: str, by: Author) -> None:
        with suppress(Fault):
            self.store.signatures.approve("m", version, by)
            assert by is not PUSHER
            assert version in self.signed
            assert not self.gates or self.passes_others(version)
            self.approved.add(version)
        self.attempt(lambda: None)

    def passes_others(self, version: str) -> bool:
        metadata = self.metadata[version]
        return "card" in metadata and "code_commit" in metadata and metadata["metrics"]["accuracy"] >= 0.9

    @rule(version=version_names, by=st.sampled_from([PUSHER, ANN]))
    def approve_candidate(self, version: str, by: Author) -> None:
        outbox = Outbox(self.world.database, self.traffic, self.world.clock)
        with suppress(Fault):
            outbox.approve_version("m", version, by)
            if version in self.metadata and by is not PUSHER:
                self.approved.add(version)
        self.attempt(lambda: None)

    @rule(version=version_names, alias=st.sampled_from(["champion", "challenger"]), force=st.booleans())
    def alias(self, version: str, alias: str, force: bool) -> None:
        self.attempt(lambda: self.store.aliases.move("m", alias, version, ME, force=force))

    @rule(alias=st.sampled_from(["champion", "challenger"]), force=st.booleans())
    def roll_back_alias(self, alias: str, force: bool) -> None:
        usable = [version for version in VERSIONS if version in self.metadata]
        fallback = usable[-2] if len(usable) > 1 else None
        self.attempt(lambda: self.store.aliases.roll_back("m", alias, ME, usable.__contains__, fallback, force=force))

    @rule(alias=st.sampled_from(["champion", "challenger"]), force=st.booleans())
    def drop_alias(self, alias: str, force: bool) -> None:
        self.attempt(lambda: self.store.aliases.drop("m", alias, ME, force=force))

    @rule(one=version_names, other=version_names, weight=st.sampled_from([0, 500, 5000, POINTS]), shadow=version_names)
    def route(self, one: str, other: str, weight: int, shadow: str) -> None:
        split = {one: POINTS} if one == other else {one: POINTS - weight, other: weight}
        document: dict[str, Any] = {"split": split}
        if shadow not in split:
            document["shadow"] = [{"version": shadow, "percent": 10}]
        self.attempt(lambda: asyncio.run(self.routes.set_route("m", document, ME)))

    @rule()
    def drop_route(self) -> None:
        self.attempt(lambda: asyncio.run(self.routes.drop_route("m", ME)))

    @rule(to=version_names, control=st.none() | version_names, deadline=st.booleans(), shadow=st.booleans())
    def start_rollout(self, to: str, control: str | None, deadline: bool, shadow: bool) -> None:
        document: dict[str, Any] = {**STEPS, "to": to, **({"from": control} if control else {})}
        document |= {"deadline_seconds": 5, "on_inconclusive": "abort"} if deadline else {}
        document |= {"shadow": 100, "guards": ["disagreement"]} if shadow else {}
        before = set(self.shares)
        if self.trial() is None:
            self.attempt(lambda: asyncio.run(self.rollouts.begin("m", document, ME)))
            self.before_rollout = before

    @precondition(lambda self: self.trial() is not None)
    @rule(verb=st.sampled_from(["promote", "abort", "pause", "resume"]))
    def act(self, verb: str) -> None:
        trial = self.trial()
        self.attempt(lambda: asyncio.run(self.rollouts.act("m", trial.id, verb, ME)), returns=verb == "abort")

    @precondition(lambda self: self.trial() is not None)
    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0]), bad=st.booleans())
    def go_on(self, seconds: float, bad: bool) -> None:
        """Let time pass with traffic: the rollout steps forward, is promoted, rolled back, or expires."""
        trial, fleet = self.trial(), self.world.fleet
        document = asyncio.run(self.rollouts.get_trial("m", trial.id))
        share = 3000 * document["weight"] // POINTS
        fleet.answer(document["to"], share // 2 if bad else share, share // 2 if bad else 0, canary=True)
        fleet.answer(document["from"], 3000 - share)
        self.world.clock.now += seconds
        self.attempt(lambda: asyncio.run(self.rollouts.step()), returns=True)

    @rule(version=version_names)
    def retire(self, version: str) -> None:
        def end() -> None:
            self.store.retire("m", version, ME)
            self.metadata.pop(version, None)
            self.retired.add(version)

        self.attempt(end)

    @rule()
    def restart(self) -> None:
        """Begin again over what is stored: nobody may gain by that."""
        self.close()
        before = self.shares_now()
        self.open()
        self.attempt(lambda: None)
        assert self.shares_now() == before

    @invariant()
    def the_newest_version_answers_only_if_it_passes(self) -> None:
        record = self.record()
        failing = {version for version in record.versions if not self.passes(version) and self.gates}
        admitted = {version for version, item in record.versions.items() if item.state.value == "admitted"}
        assert set(record.withheld) == failing & admitted


def test_no_path_leads_past_the_gates() -> None:
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # a shorter example would take minutes
    settings = hypothesis.settings(
        max_examples=examples(300), stateful_step_count=40, deadline=None, phases=phases, database=None
    )
    run_state_machine_as_test(GateMachine, settings=settings)


@pytest.fixture
def machine() -> Any:
    made = GateMachine()
    yield made
    made.teardown()


def test_every_gate_is_in_the_audit_with_its_result(machine: GateMachine) -> None:
    machine.set_policy(True)
    machine.push("1", card=True, accuracy=0.8, commit=True)
    machine.sign("1", foreign=False, of="1")
    with pytest.raises(Refused, match=r"its accuracy is 0\.8; at least 0\.9 is required"):
        machine.store.aliases.move("m", "champion", "1", ANN)
    refused = machine.store.audit("m")[-1]
    assert (refused.action, refused.actor) == ("gates.refuse", "ann")
    assert refused.after is not None
    results = refused.after["versions"][0]["results"]
    assert [(item["gate"], item["passed"]) for item in results] == [
        ("signature", True),
        ("card", True),
        ("provenance", True),
        ("metrics", False),
        ("approval", False),
    ]
    machine.push("2", card=True, accuracy=0.95, commit=True)
    machine.sign("2", foreign=False, of="2")
    machine.approve("2", ANN)
    machine.store.aliases.move("m", "champion", "2", ANN)
    passed = next(entry for entry in machine.store.audit("m") if entry.action == "gates.evaluate")
    assert passed.after is not None
    assert all(item["passed"] for item in passed.after["versions"][0]["results"])
    assert (passed.after["change"], passed.after["enforced"]) == ("alias.move", True)


def test_a_rollout_waits_for_a_person_where_its_version_no_longer_passes(machine: GateMachine) -> None:
    machine.set_policy(False)
    for version in ("1", "2"):
        machine.push(version, card=True, accuracy=0.95, commit=True)
        machine.sign(version, foreign=False, of=version)
    machine.store.aliases.move("m", "champion", "1", ANN)
    asyncio.run(machine.world.fleet.serve_changes())
    trial = asyncio.run(machine.rollouts.begin("m", {**STEPS, "to": "2"}, ME))
    machine.set_policy(True)  # an approval is asked for, and there is none
    for _ in range(8):
        machine.go_on(1.0, bad=False)
    state = asyncio.run(machine.rollouts.get_trial("m", trial["id"]))
    assert (state["state"], state["weight"]) == ("paused", 1000)
    assert "version '2' does not pass its gates: approval: it has 0 approvals" in state["reason"]
    with pytest.raises(Refused, match="approval"):
        asyncio.run(machine.rollouts.act("m", trial["id"], "promote", ME))
    machine.approve("2", ANN)
    over = asyncio.run(machine.rollouts.act("m", trial["id"], "promote", ME))
    assert over["state"] == "promoted"
    assert machine.record().aliases["champion"].version == "2"


def test_the_way_back_is_open_to_what_answered_before(machine: GateMachine) -> None:
    machine.set_policy(False)
    for version in ("1", "2"):
        machine.push(version, card=False, accuracy=0.8 if version == "1" else 0.95, commit=False)
        machine.sign(version, foreign=False, of=version)
    machine.traffic.set_route("m", lambda _: parse_route({"split": {"1": POINTS}}), ME)
    asyncio.run(machine.world.fleet.serve_changes())
    trial = asyncio.run(machine.rollouts.begin("m", {**STEPS, "to": "2"}, ME))
    machine.set_policy(True)  # version 1 would not pass any more
    over = asyncio.run(machine.rollouts.act("m", trial["id"], "abort", ME))
    assert over["state"] == "rolled_back"
    route = machine.record().route
    assert route is not None
    assert route.split == {"1": POINTS}
    noted = [entry for entry in machine.store.audit("m") if entry.action == "gates.evaluate"][-1]
    assert noted.after is not None
    assert noted.after["enforced"] is False


def test_what_belongs_to_no_version_is_deleted(machine: GateMachine) -> None:
    machine.set_policy(False)
    machine.push("1", card=True, accuracy=0.95, commit=True)
    for version in ("1", "2"):
        machine.sign(version, foreign=False, of=version)
    machine.approve("1", ANN)
    kept = RetentionStore(machine.world.database, machine.world.clock)
    assert (kept.signatures(0.0), kept.approvals()) == (0, 0)
    assert kept.signatures(machine.world.clock.now + 1) == 1  # version 2 was never pushed
    assert [machine.store.signatures.bundles("m", version) != [] for version in ("1", "2")] == [True, False]
    machine.store.retire("m", "1", ME)
    assert kept.retired_versions(machine.world.clock.now + 1) == 1
    assert kept.approvals() == 1
