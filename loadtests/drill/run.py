"""One kind of canary through the whole server: clients, a rollout, what happens half way, and what came of it."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loadtests.drill import templates
from loadtests.drill.fleet import Fleet
from loadtests.drill.gateway import CANARY, CONTROL, Gateway
from loadtests.drill.kinds import REFUSED, Disturbance, Kind, MarkedFrom, build_control
from loadtests.drill.traffic import Clients, Plan, count_intervals

STEPS = (2500, 5000, 10_000)
MIN_STEP_S = 3.0
RATE = 400.0
"""Requests a second."""

WARM_S = 2.0
MOST_S = 150.0
LOOK_S = 0.2
INTERVAL_S = 1.0
"""What stands for a minute of the templates."""

OPEN = ("running", "paused")
UNEXPECTED, UNREADY = 500, (409, 422)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a kind: how its rollout ended and why, the callers that were harmed of all, and the seconds it took.

    ``argo`` and ``flagger``: what their templates would have done, and after how many intervals.
    """

    kind: str
    bad: bool
    wanted: str
    ended: str
    reason: str
    harmed: int
    requests: int
    seconds: float
    argo: tuple[str, int]
    flagger: tuple[str, int]
    faults: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether it ended as it had to, and left the traffic as it had to be."""
        return self.ended == self.wanted and not self.faults

    def out(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "right": self.right}


def drill(kind: Kind, report: Callable[[str], None]) -> Outcome:
    """Run one kind; ``report`` gets its progress."""
    with TemporaryDirectory(prefix="penstock-drill-") as folder:
        report("starting")
        versions = {CONTROL: build_control(kind), CANARY: kind.canary}
        gateway = (Fleet if kind.fleet else Gateway)(Path(folder), versions, kind.workers)
        try:
            return _Drill(kind, gateway, report).run()
        finally:
            gateway.stop()


class _Drill:
    def __init__(self, kind: Kind, gateway: Gateway | Fleet, report: Callable[[str], None]) -> None:
        self._kind, self._gateway, self._report = kind, gateway, report
        self._plan = Plan(RATE, labels=kind.labels, garbage=kind.garbage)
        self._clients = Clients(self._plan, lambda: gateway.http)
        self._happened = False
        self._last_step_at: float | None = None

    def run(self) -> Outcome:
        """The clients, the rollout, and its end."""
        self._set_champion()
        self._plan.hold = self._kind.happens is Disturbance.DELAYED_LABELS
        self._clients.start()
        try:
            time.sleep(WARM_S)
            self._plan.hold = False
            return self._rollout()
        finally:
            self._clients.stop()

    def _set_champion(self) -> None:
        status, said = self._gateway.admin("PUT", "/aliases/champion", {"version": CONTROL})
        if status >= UNEXPECTED or status in UNREADY:
            raise RuntimeError(f"the champion could not be set: {said}")

    def _rollout(self) -> Outcome:
        asked = {"to": CANARY, "steps": list(STEPS), "min_step_seconds": MIN_STEP_S, "guards": self._kind.guards}
        self._mark({"weight": STEPS[0]})
        began, seen_before = time.monotonic(), len(self._plan.seen)
        status, begun = self._gateway.admin("POST", "/rollouts", asked)
        if status in UNREADY:
            return self._outcome(REFUSED, str(begun.get("error", "")), began, seen_before)
        if "id" not in begun:
            raise RuntimeError(f"the rollout did not begin: {begun}")
        state = self._walk(begun, began + MOST_S)
        return self._outcome(state["state"], state["reason"] or "; ".join(state["progress"]), began, seen_before)

    def _walk(self, state: dict[str, Any], until: float) -> dict[str, Any]:
        while state["state"] in OPEN and time.monotonic() < until:
            self._report("; ".join(state["progress"][:1]))
            self._mark(state)
            self._disturb(state)
            time.sleep(LOOK_S)
            status, rollout = self._gateway.admin("GET", f"/rollouts/{state['id']}")
            state = rollout if status < UNREADY[0] - 9 else state
        return state

    def _mark(self, state: dict[str, Any]) -> None:
        """Show the canary's fault from when on it is to be shown."""
        least = {MarkedFrom.START: 0, MarkedFrom.SECOND_STEP: STEPS[1], MarkedFrom.LAST_STEP: STEPS[1] + 1}[
            self._kind.marked_from
        ]
        if state["weight"] > STEPS[1] and self._last_step_at is None:
            self._last_step_at = time.monotonic()
        if state["weight"] >= least:
            self._plan.marked = self._kind.marked

    def _disturb(self, state: dict[str, Any]) -> None:
        """What happens half way, once."""
        if self._happened or state["weight"] < STEPS[1] or not state["in_place"]:
            return
        self._happened = True
        if self._kind.happens is Disturbance.DELAYED_LABELS:
            self._clients.send_labels(self._plan.old)
        elif self._kind.happens in (Disturbance.LEADER_FROZEN, Disturbance.LEADER_LOST):
            self._gateway.lose_leader(kill=self._kind.happens is Disturbance.LEADER_LOST)

    def _outcome(self, ended: str, reason: str, began: float, seen_before: int) -> Outcome:
        now = time.monotonic()
        answers = self._plan.seen[seen_before:]
        counts = count_intervals(answers, began, min(now, self._last_step_at or now), INTERVAL_S)
        harmed = sum(answer.harmed for answer in answers)
        decided = templates.judge_by_argo(counts), templates.judge_by_flagger(counts)
        facts = self._kind.name, self._kind.bad, self._kind.ends, ended, reason
        return Outcome(*facts, harmed, len(answers), round(now - began, 1), *decided, tuple(self._left_wrong(ended)))

    def _left_wrong(self, ended: str) -> list[str]:
        """What the rollout has left otherwise than it should: the champion, a route, who answers."""
        status, model = self._gateway.admin("GET", "")
        if status != 200:
            return [f"the model cannot be read: {model}"]
        champion = next((version["version"] for version in model["versions"] if "champion" in version["aliases"]), "")
        wanted = CANARY if ended == "promoted" else CONTROL
        faults = [] if champion == wanted else [f"the champion is {champion}, not {wanted}"]
        _, route = self._gateway.admin("GET", "/route")
        split = route.get("split") or {}
        return faults if split == {wanted: 10_000} else [*faults, f"the split is {split}"]
