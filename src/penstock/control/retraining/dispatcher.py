"""Sends the events of the outbox to their sinks, in order for each model and sink, and concurrently otherwise."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from penstock.control.calls.blocking import BlockingCall, BlockingPool
from penstock.control.periodic import ProblemLog, backoff_s
from penstock.control.sinks import NotStarted, SinkContext, SinkFault
from penstock.control.sinks.plugins import send
from penstock.core.errors import Fault, NotReady
from penstock.core.sinks import RUN_ONCE, SinkSpec
from penstock.registry.db.lease import NotLeading
from penstock.registry.stores.outbox import Delivery, Outbox, Superseded
from penstock.registry.stores.traffic import TrialEvent
from penstock.telemetry.delivery_metrics import Outcome

log = logging.getLogger("penstock.control")

SENDERS = 32
"""Maximum concurrent events, and commands in addition."""

AT_ONE_SINK = 4
"""Maximum concurrent events to the same address, including late calls that continue: a silent one leaves capacity for
other sinks.
"""

SEND_S = 300.0
"""Deadline of one event; every sink except commands has limits far below it."""

MOST_COMMAND_S = 25 * 3600.0
"""Deadline of one command; a policy limits it to a day."""

FIRST_S, LONGEST_S = 1.0, 300.0
PUT_OFF_S = (30.0, 900.0)
"""First and longest pause before a retry of a command that could not start for lack of space or descriptors."""

MOST_ATTEMPTS = 16
"""Attempts after which a delivery is given up: about forty minutes."""

GATHER_S = 900.0
"""Deadline for collecting the captured rows of a command, from all gateways."""

WRITE_AGAIN_S = (1.0, 5.0)
"""First and longest pause between two attempts to store the outcome of a delivery."""

OUTBOX = "outbox"

NO_SINK = "the policy no longer has this sink"
UNFINISHED = (
    "the command was started, but its gateway ended or lost the lead before it finished; "
    "it is not run again automatically: use penstock retrain NAME --replay"
)


class Dispatcher:
    """The dispatcher of one gateway; ``sinks`` returns those of a model's policy, ``run`` runs blocking calls on a
    thread, ``clock`` gives seconds since the epoch. Belongs to the event loop.
    """

    def __init__(
        self,
        outbox: Outbox,
        sinks: Callable[[str], Mapping[str, SinkSpec]],
        context: SinkContext,
        run: Callable[..., Awaitable[Any]],
        clock: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._sinks = sinks
        self._context = context
        self._run = run
        self._clock = clock
        self._senders = BlockingPool("deliveries", SENDERS, "the sink", SEND_S)
        self._commands = BlockingPool("commands", SENDERS, "the command", MOST_COMMAND_S)
        self.pools = (self._senders, self._commands)
        self._sending: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._targets: dict[tuple[str, str], SinkSpec | None] = {}
        self._overdue: list[tuple[SinkSpec, BlockingCall]] = []
        self._unanswered: dict[int, int | None] = {}
        self._not_started: dict[tuple[str, str], int] = {}
        self._problem_log = ProblemLog()
        self._outcomes: Counter[tuple[str, Outcome]] = Counter()

    def outcomes(self, models: Collection[str]) -> list[tuple[str, Outcome, int]]:
        """Return how attempts ended so far, of these models and of events that belong to none; others are forgotten."""
        known = {key: count for key, count in self._outcomes.items() if not key[0] or key[0] in models}
        self._outcomes = Counter(known)
        return [(model, outcome, count) for (model, outcome), count in known.items()]

    async def step(self) -> None:
        """Begin to send due events, except those that wait for an earlier one."""
        self._not_started = {key: count for key, count in self._not_started.items() if key[1] in self._sinks(key[0])}
        for delivery in await self._run(self._outbox.due):
            key = (delivery.model, delivery.sink)
            spec = self._sinks(delivery.model).get(delivery.sink)
            if key not in self._sending and self._has_capacity(spec):
                self._targets[key] = spec
                task = self._sending[key] = asyncio.create_task(self._deliver(delivery))
                task.add_done_callback(partial(self._on_sent, key))

    async def idle(self) -> None:
        """Wait until nothing is being sent."""
        await asyncio.gather(*self._sending.values())

    def close(self) -> None:
        """End the running commands, and the threads."""
        self._context.commands.end()  # else the process would wait for them
        for pool in self.pools:
            pool.close()

    def _has_capacity(self, spec: SinkSpec | None) -> bool:
        """Whether another event may be sent to a sink; the next step tries the others again."""
        self._overdue = [(target, job) for target, job in self._overdue if not job.returned]
        targets = [*self._targets.values(), *(target for target, _ in self._overdue)]
        alike = [item for item in targets if _runs_once(item) == _runs_once(spec)]
        return len(alike) < SENDERS and targets.count(spec) < AT_ONE_SINK

    def _on_sent(self, key: tuple[str, str], _: "asyncio.Task[None]") -> None:
        self._sending.pop(key, None)
        self._targets.pop(key, None)

    async def _deliver(self, delivery: Delivery) -> None:
        """Send one event, and the events that wait for it."""
        waiting = [delivery]
        while waiting and await self._send_one(waiting[0]):
            try:
                waiting = await self._run(self._outbox.due, waiting[0])
            except Fault:
                return  # the next step looks again

    async def _send_one(self, delivery: Delivery) -> bool:
        """Send one event, and store the outcome; return whether the sink has it."""
        spec = self._sinks(delivery.model).get(delivery.sink)
        try:
            context = self._context
            if _runs_once(spec):
                context = await self._with_rows(delivery)
                delivery = await self._begin(delivery)
            await self._send(spec, delivery, context)
        except SinkFault as fault:
            await self._record_failure(spec, delivery, fault)
            return False
        except Fault:
            return False  # nothing was sent: the next step looks again
        except Exception as error:
            await self._record_failure(spec, delivery, SinkFault("the sink failed", final=_runs_once(spec)), error)
            return False
        self._takes_events(delivery)
        return await self._write(partial(self._outbox.mark_sent, delivery))

    def _takes_events(self, delivery: Delivery) -> None:
        key = (delivery.model, delivery.sink)
        self._outcomes[delivery.model, Outcome.SENT] += 1
        self._not_started.pop(key, None)
        if self._problem_log.clear(key):
            log.info("sink %s of model %s accepts events again", delivery.sink, delivery.model)

    async def _send(self, spec: SinkSpec | None, delivery: Delivery, context: SinkContext) -> None:
        if spec is None:
            raise SinkFault(NO_SINK, final=True)
        pool = self._commands if _runs_once(spec) else self._senders
        job = None
        try:
            job = pool.submit(partial(send, spec, delivery.event, context))
            await pool.result(job)
        except NotReady as fault:  # it may have been sent: it counts as an attempt
            raise SinkFault(str(fault), final=_runs_once(spec)) from None
        finally:
            if job is not None and job.abandoned:
                self._overdue.append((spec, job))

    async def _begin(self, delivery: Delivery) -> Delivery:
        """Record that a command starts; a command that has started before is not started again.

        A write that was not answered may have taken effect, or may still. Within one term nobody else can have begun
        the same delivery, so one that has is ours, and nothing was started yet.
        """
        term = self._outbox.term
        if delivery.attempts:
            if delivery.attempts > 1 or term is None or self._unanswered.get(delivery.seq) != term:
                raise SinkFault(UNFINISHED, final=True)
            delivery = replace(delivery, attempts=0, begun=True)
        self._unanswered = {seq: asked_term for seq, asked_term in self._unanswered.items() if asked_term == term}
        self._unanswered[delivery.seq] = term
        begun: Delivery = await self._run(self._outbox.begin, delivery)
        self._unanswered.pop(delivery.seq, None)
        return begun

    async def _with_rows(self, delivery: Delivery) -> SinkContext:
        """Return the context of a command, with its rows; they are collected before its start is recorded, because it
        runs once.
        """
        context: SinkContext = await self._commands.call(self._context.with_rows, delivery.event, deadline_s=GATHER_S)
        return context

    async def _record_failure(
        self, spec: SinkSpec | None, delivery: Delivery, fault: SinkFault, error: Exception | None = None
    ) -> None:
        key = (delivery.model, delivery.sink)
        text = f"sink {delivery.sink} of model {delivery.model} does not have an event: {fault}"
        self._problem_log.report(key, text, error)
        if isinstance(fault, NotStarted):
            failures = self._not_started[key] = self._not_started.get(key, 0) + 1
            due = self._clock() + backoff_s(failures, *PUT_OFF_S, random.random())
            await self._write(partial(self._outbox.put_off, delivery, due, str(fault)))
            return
        self._not_started.pop(key, None)
        given_up = fault.final or delivery.attempts + 1 >= MOST_ATTEMPTS
        self._outcomes[delivery.model, Outcome.GIVEN_UP if given_up else Outcome.FAILED] += 1
        if given_up:
            log.warning(
                "event %s is given up for sink %s of model %s", delivery.event["id"], delivery.sink, delivery.model
            )
            event = _dead_letter_event(spec, delivery, fault, self._clock())
            others = self._other_commands(delivery) if fault.failed else None
            await self._write(partial(self._outbox.mark_dead, delivery, str(fault), event, others))
            return
        due = self._clock() + max(fault.after_s, backoff_s(delivery.attempts + 1, FIRST_S, LONGEST_S, random.random()))
        await self._write(partial(self._outbox.mark_failed, delivery, due, str(fault)))

    def _other_commands(self, delivery: Delivery) -> list[str]:
        """Return other sinks of the model that train too, and may have the same event."""
        sinks = self._sinks(delivery.model)
        return [name for name, spec in sinks.items() if _runs_once(spec) and name != delivery.sink]

    async def _write(self, write: Callable[[], None]) -> bool:
        """Store the outcome of a delivery, and retry until the database has it; return False if this gateway may no
        longer decide: the next leader finds the delivery unchanged.
        """
        failures = 0
        while True:
            try:
                await self._run(write)
            except (NotLeading, Superseded):
                return False
            except Fault as fault:
                self._problem_log.report(OUTBOX, f"the outcome of a delivery could not be stored; retrying: {fault}")
            else:
                if self._problem_log.clear(OUTBOX):
                    log.info("outcomes of deliveries can be stored again")
                return True
            failures += 1
            await asyncio.sleep(backoff_s(failures, *WRITE_AGAIN_S, random.random()))


def _runs_once(spec: SinkSpec | None) -> bool:
    return spec is not None and spec.kind in RUN_ONCE


def _dead_letter_event(spec: SinkSpec | None, delivery: Delivery, fault: SinkFault, now: float) -> TrialEvent:
    """Return the event of a delivery that is given up."""
    about: Mapping[str, Any] = delivery.event.get("data") or {}
    data = {
        "model": delivery.model,
        "version": about.get("version"),
        "rule": about.get("rule"),
        "sink": delivery.sink,
        "kind": None if spec is None else spec.kind,
        "event": delivery.event["id"],
        "reason": str(fault).split("\n", 1)[0],
        "output": fault.output.splitlines(),
    }
    subject = f"models/{delivery.model}" if delivery.model else str(delivery.event["subject"])
    return TrialEvent("delivery.failed.v1", subject, f"{delivery.seq} {now:.3f}", data)
