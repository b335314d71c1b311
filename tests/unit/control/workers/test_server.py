"""Both ends of the socket between the planes, talking to each other and to peers that misbehave."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.workers.client import CONFIG_CHARACTERS, Link
from penstock.control.workers.protocol import (
    LINE_BYTES,
    ChannelBroken,
    MessageQueue,
    decode_desired,
    decode_fault,
    decode_feedback,
    decode_status,
    encode_desired,
    encode_fault,
    encode_status,
    feedback_pieces,
    receive,
)
from penstock.control.workers.server import Channel, Listeners, WorkerReport
from penstock.core.batching import RowProof
from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus
from penstock.core.errors import KINDS, Fault, InvalidInput, NotFound, NotReady, TooLarge
from penstock.core.frames.terms import RowTerms
from penstock.core.versions import VersionKey
from penstock.monitor.columns import RowValues
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.registry.records import Author
from tests.harness import PATIENCE_S, reached

texts = st.text(max_size=8)
proofs = st.builds(RowProof, st.booleans(), texts, texts, texts)
defaults = st.dictionaries(texts, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts)
terms = st.builds(RowTerms, st.lists(texts).map(tuple), defaults, st.sampled_from(["refuse", "ignore"]))
specs = st.builds(VersionSpec, texts, texts, texts, texts, st.integers(0, 1023), texts, rows=proofs, row_terms=terms)
models = st.builds(
    ModelSpec,
    texts,
    st.lists(specs, max_size=3).map(tuple),
    st.dictionaries(texts, texts),
    st.dictionaries(texts, texts),
)

SPEC = Desired(3, (ModelSpec("m", (VersionSpec("1", "/m/1", block=2, tag="t"),), {}, {"2": "broken"}),))
READY = VersionStatus("m", "1", ReadyState.READY, tag="t")


@given(st.builds(Desired, st.integers(0), st.lists(models, max_size=3).map(tuple)))
def test_a_desired_state_survives_the_wire(desired: Desired) -> None:
    assert decode_desired(json.loads(json.dumps(encode_desired(desired)))) == desired


@given(st.builds(VersionStatus, texts, texts, st.sampled_from(ReadyState), texts, texts))
def test_a_status_survives_the_wire(status: VersionStatus) -> None:
    assert decode_status(json.loads(json.dumps(encode_status(status)))) == status


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_survives_the_wire(kind: type[Fault]) -> None:
    fault = decode_fault(encode_fault(kind("because")))
    assert type(fault) is kind
    assert str(fault) == "because"
    assert decode_fault(encode_fault(None)) is None


@pytest.mark.parametrize("line", [b'{"a":1', b"no json\n", b"[1]\n", b"\xff\n", b"x" * 200 + b"\n"])
def test_a_malformed_line_breaks_the_channel(line: bytes) -> None:
    async def run() -> None:
        reader = asyncio.StreamReader(limit=100)
        reader.feed_data(line)
        reader.feed_eof()
        with pytest.raises(ChannelBroken):
            await receive(reader)

    asyncio.run(run())


class Ends:
    """A channel, and what it was told."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.sock"
        self.asked: list[tuple[str, ...]] = []
        self.loads: list[tuple[VersionKey, bool]] = []
        self.parted: list[int] = []
        self.answer: Callable[[str], Fault | None] = lambda model: None
        self.admitted = True
        self.wanted: list[Desired] = []
        self.links: list[Link] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.changes = asyncio.Event()
        self.channel = self.new_channel()

    def new_channel(self) -> Channel:
        listeners = Listeners(
            self.changes.set,
            lambda key, good: self.loads.append((key, good)),
            lambda slot, report: self.parted.append(report.pid),
            feedback=self.feedback,
        )
        channel = Channel(self.path, lambda slot, pid: self.admitted and pid == os.getpid(), self, listeners)
        channel.publish(Desired(1))  # before that, a channel has nothing to say
        return channel

    async def feedback(self, model: str, reported: Sequence[Feedback]) -> FeedbackResult:
        self.asked.append(("feedback", model, ",".join(item.id for item in reported)))
        if fault := self.answer(model):
            raise fault
        return FeedbackResult(sum(not item.id.startswith(model) for item in reported), pending=1)

    async def load(self, model: str, config: str | None, by: Author) -> None:
        self.asked.append(("load", model, config or ""))
        if fault := self.answer(model):
            raise fault

    async def unload(self, model: str, by: Author) -> None:
        self.asked.append(("unload", model))
        if model == "bug":
            raise RuntimeError

    def link(self, slot: int = 0, grace_s: float = 60.0) -> Link:
        self.links.append(Link(self.path, slot, self.wanted.append, 2.0))
        self.tasks.append(asyncio.create_task(self.links[-1].run(grace_s)))
        return self.links[-1]

    async def until(self, check: Callable[[], bool]) -> None:
        await reached(check)


def between(tmp_path: Path, act: Callable[[Ends], Awaitable[None]]) -> None:
    async def run() -> None:
        ends = Ends(tmp_path)
        await ends.channel.start()
        try:
            await act(ends)
        finally:
            for task in ends.tasks:
                task.cancel()
            await asyncio.gather(*ends.tasks, return_exceptions=True)
            await ends.channel.close()

    asyncio.run(run())


def test_a_worker_receives_what_to_serve_and_reports_back(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        ends.channel.publish(SPEC)
        link = ends.link(slot=1)
        await ends.until(lambda: ends.wanted == [SPEC])
        link.report([READY])
        link.describe("m", "1", {"inputs": []})
        link.closing(["a", "b", "a"])
        link.applied(3)
        await ends.until(lambda: 1 in ends.channel.reports and ends.channel.reports[1].applied == 3)
        report = ends.channel.reports[1]
        assert report == WorkerReport(os.getpid(), 3, {("m", "1"): READY}, frozenset({"a", "b"}))
        await ends.until(lambda: ends.channel.signatures == {("m", "1"): {"inputs": []}})
        newer = Desired(4)
        ends.channel.publish(newer)
        await ends.until(lambda: ends.wanted == [SPEC, newer])

    between(tmp_path, act)


def test_attempts_to_load_are_reported_once_each(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        link = ends.link()
        await ends.until(lambda: bool(ends.wanted))
        failed = VersionStatus("m", "2", ReadyState.UNAVAILABLE, "bad", "t")
        kept = VersionStatus("m", "1", ReadyState.READY, "the new one is bad", "t2")
        for said in ([VersionStatus("m", "1", ReadyState.LOADING, tag="t")], [READY], [READY, failed], [kept, failed]):
            link.report(said)
            await ends.until(lambda said=said: len(ends.channel.reports[0].versions) == len(said))  # type: ignore[misc]
            await ends.until(lambda said=said: ends.channel.reports[0].versions["m", "1"] == said[0])  # type: ignore[misc]
        assert ends.loads == [(("m", "1"), True), (("m", "2"), False), (("m", "1"), False)]

    between(tmp_path, act)


def test_repository_requests_go_up_and_their_faults_come_down(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        link = ends.link()
        await ends.until(lambda: bool(ends.wanted))
        await link.load("a", '{"x":1}')
        await link.unload("b")
        assert ends.asked == [("load", "a", '{"x":1}'), ("unload", "b")]
        ends.answer = lambda model: NotFound(f"unknown model '{model}'")
        with pytest.raises(NotFound, match="unknown model 'c'"):
            await link.load("c", None)
        ends.answer = lambda model: InvalidInput("bad graph")
        with pytest.raises(InvalidInput, match="bad graph"):
            await link.load("c", None)
        with pytest.raises(Fault, match="the repository request failed"):
            await link.unload("bug")

    between(tmp_path, act)


def test_a_worker_outlives_control_processes(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        link = ends.link()
        with pytest.raises(NotReady):
            await link.load("a", None)
        await ends.until(lambda: bool(ends.wanted))
        link.report([READY])
        link.applied(1)
        await ends.until(lambda: bool(ends.loads))
        await ends.channel.close()
        assert ends.channel.reports == {}
        assert ends.parted == [os.getpid()]
        await ends.until(lambda: link._outbox is None)
        with pytest.raises(NotReady, match="away"):
            await link.unload("a")
        ends.channel = ends.new_channel()
        await ends.channel.start()
        await ends.until(lambda: 0 in ends.channel.reports and ends.channel.reports[0].applied == 1)
        assert ends.channel.reports[0].versions == {("m", "1"): READY}
        assert ends.loads == [(("m", "1"), True)]  # what was loaded before is not counted again

    between(tmp_path, act)


def test_a_request_under_way_fails_when_the_control_process_goes(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        link = ends.link()
        await ends.until(lambda: bool(ends.wanted))
        asked = asyncio.Event()

        async def never(model: str, by: Author) -> None:
            asked.set()
            await asyncio.Event().wait()

        ends.unload = never  # type: ignore[method-assign]
        waiting = asyncio.create_task(link.unload("a"))
        await asked.wait()
        await ends.channel.close()
        with pytest.raises(NotReady):
            await waiting

    between(tmp_path, act)


def test_feedback_is_joined_by_the_control_process(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        link = ends.link()
        with pytest.raises(NotReady):
            await link.feedback("a", [Feedback("a1")])
        await ends.until(lambda: bool(ends.wanted))
        assert await link.feedback("a", [Feedback("a1", 1), Feedback("b1", reward=0.5, at=3.0)]) == FeedbackResult(1, 1)
        assert ends.asked == [("feedback", "a", "a1,b1")]
        ends.answer = lambda _: NotReady("later")
        with pytest.raises(NotReady, match="later"):
            await link.feedback("a", [Feedback("a1", 1)])

    between(tmp_path, act)


def test_a_worker_gives_up_after_its_grace_time(tmp_path: Path) -> None:
    async def run() -> None:
        link = Link(tmp_path / "nobody.sock", 0, lambda desired: None, 1.0)
        async with asyncio.timeout(PATIENCE_S):
            await link.run(grace_s=0.0)

    asyncio.run(run())


def test_processes_of_other_users_are_not_listened_to(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        for first in (b'{"type":"hello","slot":0}\n', b'{"type":"report","slot":0}\n', b"noise\n", b""):
            ends.admitted = not first.startswith(b'{"type":"hello"')
            reader, writer = await asyncio.open_unix_connection(ends.path)
            writer.write(first)
            writer.write_eof()
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        assert ends.channel.reports == {}

    between(tmp_path, act)


@pytest.mark.parametrize(
    "reported",
    [
        [Feedback(f"{number:0512}", ["\U0001f600" * 1024] * 4) for number in range(500)],
        [Feedback("a", [1.5] * 200_000), Feedback("b", ["\x00" * 1000] * 900)],
        [Feedback(str(number), reward=1.0) for number in range(30_000)],
    ],
    ids=["texts", "long", "many"],
)
def test_large_feedback_goes_in_pieces_that_fit_a_line(reported: list[Feedback], tmp_path: Path) -> None:
    pieces = list(feedback_pieces(reported))
    assert len(pieces) > 1
    assert max(len(json.dumps(piece)) for piece in pieces) < LINE_BYTES - 1000
    assert [item for piece in pieces for item in decode_feedback(piece)] == reported

    async def act(ends: Ends) -> None:
        link = ends.link()
        await ends.until(lambda: bool(ends.wanted))
        assert (await link.feedback("none of them", reported)).unmatched == len(reported)
        assert len(ends.asked) == len(pieces)

    between(tmp_path, act)


def huge(link: Link, kind: str) -> None:
    text = "x" * (LINE_BYTES + 1)
    match kind:
        case "report":
            link.report([VersionStatus("m", "2", ReadyState.UNAVAILABLE, text, "t")])
        case "signature":
            link.describe("m", "2", {"inputs": [text]})
        case "samples":
            link.samples("m", "2", [{"id": text, "badness": 1.0}])
        case "rows":
            rows = RowValues(np.zeros((1, 0)), ([text],))
            link.rows("m", "2", [["a"], ["a"]], [rows], [rows])


@pytest.mark.parametrize("kind", ["report", "signature", "samples", "rows"])
def test_the_link_outlives_a_message_that_is_too_long(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(ends: Ends) -> None:
        link = ends.link()
        await ends.until(lambda: bool(ends.wanted))
        huge(link, kind)
        await link.flush()
        link.describe("m", "1", {"inputs": []})
        await ends.until(lambda: ends.channel.signatures == {("m", "1"): {"inputs": []}})
        assert ends.parted == []

    between(tmp_path, act)
    assert f"a message of type {kind} was dropped" in caplog.text


def test_a_configuration_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async def act(ends: Ends) -> None:
        link = ends.link()
        await ends.until(lambda: bool(ends.wanted))
        await link.load("m", "{}" + " " * (CONFIG_CHARACTERS - 2))
        with pytest.raises(TooLarge, match="the configuration is over the limit"):
            await link.load("m", "x" * (CONFIG_CHARACTERS + 1))
        assert len(ends.asked) == 1

    between(tmp_path, act)


def test_an_outbox_keeps_the_newest_of_each_kind_in_order() -> None:
    outbox = MessageQueue()
    outbox.put("a", {"n": 1})
    outbox.put("b", {"n": 2})
    outbox.put("a", {"n": 3})
    assert list(outbox._waiting.values()) == [{"n": 3}, {"n": 2}]


def test_a_message_holds_a_thousand_models() -> None:
    labels = "x" * 4000
    many = tuple(ModelSpec(f"m{n}", (VersionSpec("1", "/m", "/m", labels, n, "t"),)) for n in range(1000))
    assert len(json.dumps(encode_desired(Desired(1, many)))) < LINE_BYTES / 2


def test_without_feedback_no_message_is_sent() -> None:
    assert list(feedback_pieces([])) == []
