"""What people ask gateways for in the simulation, at random; each operation has its own actor in the audit."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

from penstock.core.routing import POINTS
from penstock.registry.garbage_collection import collect
from penstock.registry.records import (
    AdmissionReport,
    Author,
    Content,
    Document,
    ExaminedContent,
    FileRecord,
    VersionState,
)
from penstock.registry.registry import ReceivedContent
from tests.simulation.gateway import Gateway
from tests.simulation.monitoring import APPROVED

MODELS = ("a", "b")
ALIASES = ("champion", "canary", "old")
GRACE_S = 60.0
FIRST_TRAINED = 10


@dataclass(slots=True)
class Asked:
    """One operation: what it is, and what came of it ("" while nothing is known, "done", or the fault's kind)."""

    actor: str
    what: str
    outcome: str = ""


Operation = Callable[[Gateway, Author, random.Random], Awaitable[object]]


async def push(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Push a new version, or one that is there again; an even number means a harmful one."""
    model, version = chance.choice(MODELS), str(chance.randint(1, 9))
    return await gateway.run(_push, gateway, model, version, by, {})


def train(model: str, number: int) -> Operation:
    """What a training does that was asked for: push a version that nobody else pushes."""

    async def trained(gateway: Gateway, by: Author, chance: random.Random) -> object:
        version = str(FIRST_TRAINED + 2 * number + (chance.random() < 0.7))
        metadata: Document = {"metrics": {"accuracy": chance.choice((0.9, 0.9, 0.9, 0.5))}}
        return await gateway.run(_push, gateway, model, version, by, metadata)

    trained.__name__ = "train"
    return trained


def _push(gateway: Gateway, model: str, version: str, by: Author, metadata: Document) -> object:
    with gateway.registry.receive() as incoming:
        incoming.write(octets_of(model, version))
        prepared = ReceivedContent(incoming, content_of(model, version), ExaminedContent(incoming.path), incoming.path)
        return gateway.registry.commit(prepared, model, version, AdmissionReport(), metadata, by)


def octets_of(model: str, version: str) -> bytes:
    """What a version consists of."""
    return f"{model} {version}".encode()


def content_of(model: str, version: str) -> Content:
    """The record of that."""
    octets = octets_of(model, version)
    digest = sha256(octets).hexdigest()
    return Content(f"sha256:{digest}", len(octets), "onnx", (FileRecord("model.onnx", digest, len(octets)),))


def _known(gateway: Gateway, model: str) -> list[str]:
    return [version.version for spec in gateway.fleet.desired.models if spec.name == model for version in spec.versions]


def _pick(gateway: Gateway, chance: random.Random) -> tuple[str, str]:
    model = chance.choice(MODELS)
    return model, chance.choice(_known(gateway, model) or ["1"])


async def move(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Lead an alias somewhere."""
    model, version = _pick(gateway, chance)
    alias, force = chance.choice(ALIASES), chance.random() < 0.5
    return await gateway.run(lambda: gateway.store.aliases.move(model, alias, version, by, force=force))


async def roll_back(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Lead an alias back."""
    model, alias = chance.choice(MODELS), chance.choice(ALIASES)
    return await gateway.run(_roll_back, gateway, model, alias, by)


def _roll_back(gateway: Gateway, model: str, alias: str, by: Author) -> object:
    versions = gateway.store.model(model).versions

    def usable(version: str) -> bool:
        return version in versions and versions[version].state is VersionState.ADMITTED

    return gateway.store.aliases.roll_back(model, alias, by, usable)


async def drop(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Take an alias away."""
    model, alias = chance.choice(MODELS), chance.choice(ALIASES)
    return await gateway.run(gateway.store.aliases.drop, model, alias, by)


async def retire(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Retire a version."""
    model, version = _pick(gateway, chance)
    return await gateway.run(gateway.store.retire, model, version, by)


async def route(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Divide a model's traffic by hand, between sound versions alone, or stop to."""
    model = chance.choice(MODELS)
    sound = [status for status in _known(gateway, model) if not harmful((model, status))]
    if chance.random() < 0.3 or not sound:
        return await gateway.traffic.drop_route(model, by)
    first, second = chance.choice(sound), chance.choice(sound)
    weight = chance.randrange(0, POINTS + 1, 500)
    split = {first: POINTS} if first == second else {first: weight, second: POINTS - weight}
    return await gateway.traffic.set_route(model, {"split": split}, by)


async def begin(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Start a rollout."""
    model, version = _pick(gateway, chance)
    asked: Document = {
        "to": version,
        "steps": chance.choice(([1000, 10000], [500, 5000, 10000])),
        "min_step_seconds": 1,
        "guards": [chance.choice(({"metric": "errors"}, {"metric": "error_ratio", "max": 0.2}))],
        "hold_back": 500,
    }
    if chance.random() < 0.2:
        asked |= {"deadline_seconds": 5, "on_inconclusive": chance.choice(("hold", "abort"))}
    sound = [status for status in _known(gateway, model) if not harmful((model, status)) and status != version]
    if sound:
        asked["from"] = chance.choice(sound)
    return await gateway.rollouts.begin(model, asked, by)


async def act(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Ask something of a rollout that is open, as far as the gateway knows; nobody promotes harm by hand."""
    found = [trial for trial in gateway.rollouts.newest.values() if trial.open]
    if not found:
        return None
    trial = chance.choice(found)
    verb = chance.choice(("pause", "resume", "abort", "resume", "promote"))
    if verb == "promote" and harmful((trial.model, trial.document["told"]["to"])):
        return None
    return await gateway.rollouts.act(trial.model, trial.id, verb, by)


async def experiment(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Start an experiment between sound versions."""
    model = chance.choice(MODELS)
    sound = [status for status in _known(gateway, model) if not harmful((model, status))]
    if len(sound) < 2:
        return None
    first, second = chance.sample(sound, 2)
    mode = chance.choice(("fixed", "thompson"))
    asked: Document = {"arms": {first: 5000, second: 5000}, "mode": mode, "every_seconds": 2}
    return await gateway.experiments.begin(model, asked, by)


async def steer(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Ask something of an experiment that is open, as far as the gateway knows."""
    found = [trial for trial in gateway.experiments.newest.values() if trial.open]
    if not found:
        return None
    trial = chance.choice(found)
    return await gateway.experiments.act(trial.model, trial.id, chance.choice(("pause", "resume", "stop", "stop")), by)


async def retrain(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Ask for a retraining by hand."""
    return await gateway.retraining.ask(chance.choice(MODELS), {}, by)


async def approve(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Approve a candidate."""
    trained = [status for status in _known(gateway, APPROVED) if int(status) >= FIRST_TRAINED]
    if not trained:
        return None
    return await gateway.retraining.candidates.approve(APPROVED, chance.choice(trained), by)


async def drift(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Let the rows of a model drift away from all versions that there are."""
    model = chance.choice(MODELS)
    gateway.drift((model, version) for version in _known(gateway, model))
    return None


async def clear_away(gateway: Gateway, by: Author, chance: random.Random) -> object:
    """Delete contents that nobody needs."""
    registry = gateway.registry
    return await gateway.run(collect, registry.store, registry.blobs, registry.layout, GRACE_S)


def harmful(key: tuple[str, str]) -> bool:
    """Whether a version fails requests."""
    return int(key[1]) % 2 == 0


OPERATIONS: tuple[tuple[Operation, int], ...] = (
    (push, 3),
    (move, 3),
    (roll_back, 1),
    (drop, 1),
    (retire, 3),
    (route, 2),
    (begin, 7),
    (act, 2),
    (experiment, 2),
    (steer, 3),
    (retrain, 2),
    (approve, 2),
    (drift, 2),
    (clear_away, 1),
)
"""Each with how often it is drawn."""
