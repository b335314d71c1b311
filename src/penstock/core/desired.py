"""The desired state, and the status that workers report: the plain values that cross between the planes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from penstock.core.batching import NOT_EXAMINED, RowProof
from penstock.core.frames.terms import NO_TERMS, RowTerms
from penstock.core.model_signing import UNSIGNED, SignedFiles
from penstock.core.routing import RouteSpec
from penstock.core.versions import sort_key


class ReadyState(StrEnum):
    """The state of one version, in the terms of the protocol's repository index."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class LearnSpec:
    """What a reference is learned from where there is none: so many ``rows`` (0 for none) of as many ``requests`` over
    as many ``seconds`` at least; one client may give this ``share`` of the rows. ``is_awaited`` says that other
    gateways wait for what there is, however little."""

    rows: int = 0
    requests: int = 1
    seconds: float = 0.0
    share: float = 1.0
    is_awaited: bool = False


@dataclass(frozen=True, slots=True)
class WatchSpec:
    """How a version's rows are watched: against the reference in the file at ``path``, counted in the words from
    ``offset`` on and sliced by ``keys``; or, without one (""), gathered as ``learn`` says. ``sample``
    is the share counted. ``answers`` is the folder where answers are remembered ("" for nowhere), ``captures`` the one
    where the share ``capture`` of the requests is kept as they were. What is ``masked`` by names, or by the
    ``patterns`` of its values, is neither kept nor shown. ``explained_rate`` is how many live rows a worker explains a
    second, against rows drawn from the reference."""

    path: str = ""
    digest: str = ""
    offset: int = 0
    size: int = 0
    sample: float = 1.0
    learn: LearnSpec = LearnSpec()
    names: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    answers: str = ""
    captures: str = ""
    capture: float = 0.0
    masked: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    explained_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """One version to serve: where its graph lies, how to serve it, and the counter block that is its own.

    ``config`` is the model configuration in protobuf JSON form ("" = derived from the graph); ``tag``
    changes when the file or the configuration does, so that a changed version is loaded anew. ``folder``
    is the model's own folder, where label and warm-up files lie. ``files`` are the paths below ``root`` and
    their SHA-256 (hex), to be checked before loading; ``probes`` (JSON) is what the graph must answer; ``rows`` says
    whether the graph proves that rows are independent; ``signed`` is what its signatures are about; ``watch`` is how
    its rows are watched, ``latency_ns`` what is promised of its latency (nanoseconds, 0 = nothing), and ``row_terms``
    what it says about its rows, which all can change while it serves.
    """

    version: str
    path: str
    folder: str = ""
    config: str = ""
    block: int = 0
    tag: str = ""
    root: str = ""
    files: tuple[tuple[str, str], ...] = ()
    probes: str = ""
    rows: RowProof = NOT_EXAMINED
    signed: SignedFiles = UNSIGNED
    watch: WatchSpec = WatchSpec()
    latency_ns: int = 0
    row_terms: RowTerms = NO_TERMS


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model: the versions to serve, its aliases, what is known but not served (version to reason), and its route.

    ``transition`` says what comes first when versions change: the new one (``availability``) or the memory for it
    (``resources``). ``vote_round`` names the trial and the stage in which units of a sticky split vote; "" means that
    no votes are taken. ``withheld`` are versions that have not passed their gates, and so answer only calls that name
    them. ``exhausted`` are the unavailable versions for which there is no memory or no counter block.
    """

    name: str
    versions: tuple[VersionSpec, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    transition: str = "availability"
    route: RouteSpec | None = None
    vote_round: str = ""
    withheld: tuple[str, ...] = ()
    exhausted: tuple[str, ...] = ()

    def unnamed(self, statuses: "Iterable[VersionStatus]") -> "list[VersionStatus]":
        """Return the statuses of this model's versions that may answer calls that name no version."""
        return [item for item in statuses if item.model == self.name and item.version not in self.withheld]


@dataclass(frozen=True, slots=True)
class Desired:
    """The whole desired state, repeated in full at every change; omission means unload. ``waiting``: it is not known
    yet what is to be served, so workers take requests and are not ready."""

    revision: int = 0
    models: tuple[ModelSpec, ...] = ()
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What a worker reports of one version; ``tag`` is the content it last tried to load.

    ``reason`` is a sentence for callers, ``detail`` the whole of it for operators, where that leaves something out.
    READY with a reason means that loading this content failed and the one before it still answers.
    """

    model: str
    version: str
    state: ReadyState
    reason: str = ""
    tag: str = ""
    detail: str = ""


def serving_version(
    route: RouteSpec | None, champion: str | None, statuses: Iterable[VersionStatus], but: str = ""
) -> str | None:
    """Which of one model's versions is meant to answer requests that name none: the route's stable one, the champion,
    or the newest whose loading has not failed, leaving out ``but``; None where no version is known.

    This is intent: a version that is being loaded, as after a worker's restart, keeps its place. Which versions answer
    at this moment say ``able_versions`` and ``routing.resolve_split``.
    """
    states = {status.version: status.state for status in statuses if status.version}
    chosen = route.stable if route is not None else champion
    if chosen in states:
        return chosen
    rest = states.keys() - {but}
    sound = {version for version in rest if states[version] is not ReadyState.UNAVAILABLE}
    return max(sound or rest, key=sort_key, default=None)


def able_versions(statuses: Iterable[VersionStatus], route: RouteSpec | None, champion: str | None) -> set[str]:
    """The versions of one model that answer: those that are ready in every worker.

    A version that ``route`` or ``champion`` chose was ready before, so while it is being loaded, as after one worker's
    restart, the others answer with it; where no version is ready, that holds for all that are being loaded.
    """
    states = {status.version: status.state for status in statuses if status.state is not ReadyState.UNAVAILABLE}
    chosen = {champion, *(route.receivers() if route is not None else ())}
    ready = {version for version, state in states.items() if state is ReadyState.READY or version in chosen}
    return ready or set(states)
