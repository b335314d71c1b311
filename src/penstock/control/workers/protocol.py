"""What control process and workers say to each other: one JSON object per line, and its plain values."""

import asyncio
import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from penstock.core.batching import RowProof
from penstock.core.desired import Desired, LearnSpec, ModelSpec, State, VersionSpec, VersionStatus, WatchSpec
from penstock.core.errors import KINDS, Fault, Internal
from penstock.core.routing import stored_in, stored_out
from penstock.core.signature import TensorSpec
from penstock.monitor.columns import Rows, joined
from penstock.monitor.feedback import Feedback

Message = dict[str, Any]

LINE_BYTES = 16 << 20
"""The longest line; the desired state of a thousand models with label files stays far below."""

SEND_S = 5.0
"""A peer that does not read for that long is given up."""

_FAULTS: Mapping[str, type[Fault]] = {kind.kind: kind for kind in KINDS}


PIECE_CHARACTERS = 1 << 20
"""Characters of what is told of answers in one message; JSON may need twelve bytes for one of them."""

log = logging.getLogger("penstock.control")


class ChannelBroken(Exception):
    """The other end is gone, or does not speak as agreed."""


class MessageTooLong(Exception):
    """A message is longer than a line may be; nothing of it was sent."""


async def receive(reader: asyncio.StreamReader) -> Message | None:
    """The next message, None at the end of the stream.

    Raises:
        ChannelBroken: the line is too long, cut off or no JSON object.
    """
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ChannelBroken("the line is cut off") from None
        return None
    except (asyncio.LimitOverrunError, OSError) as error:
        raise ChannelBroken(type(error).__name__) from None
    try:
        message = json.loads(line)
    except ValueError:
        raise ChannelBroken("the line is no JSON") from None
    if not isinstance(message, dict):
        raise ChannelBroken("the line is no object")
    return message


async def send(writer: asyncio.StreamWriter, message: Message) -> None:
    """Write one message and wait until the peer has room for more.

    Raises:
        ChannelBroken: the peer is gone or does not read.
        MessageTooLong: the peer would not take it.
    """
    line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    if len(line) > LINE_BYTES:
        raise MessageTooLong(f"a message has {len(line)} bytes, over the limit of {LINE_BYTES}")
    try:
        writer.write(line)
        async with asyncio.timeout(SEND_S):
            await writer.drain()
    except (OSError, TimeoutError) as error:
        raise ChannelBroken(type(error).__name__) from None


def desired_out(desired: Desired) -> Message:
    """A desired state as JSON values."""
    routes = [None if model.route is None else stored_out(model.route) for model in desired.models]
    values = asdict(replace(desired, models=tuple(replace(model, route=None) for model in desired.models)))
    for model, route in zip(values["models"], routes, strict=True):
        model["route"] = route
    return values


def desired_in(values: Message) -> Desired:
    """A desired state from its JSON values."""
    models = tuple(_model_in(model) for model in values["models"])
    return Desired(values["revision"], models, values.get("waiting", False))


def _model_in(values: Message) -> ModelSpec:
    versions = tuple(_version_in(version) for version in values["versions"])
    route = None if values["route"] is None else stored_in(values["route"])
    known = (values["name"], versions, values["aliases"], values["unavailable"], values["transition"])
    return ModelSpec(*known, route, values["vote_round"])


def _version_in(values: Message) -> VersionSpec:
    files = tuple((path, digest) for path, digest in values["files"])
    watch: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in values["watch"].items()}
    watch["learn"] = LearnSpec(**watch["learn"])
    return VersionSpec(**{**values, "files": files, "watch": WatchSpec(**watch), "rows": RowProof(**values["rows"])})


def status_out(status: VersionStatus) -> Message:
    """A version's status as JSON values."""
    return asdict(status)


def status_in(values: Message) -> VersionStatus:
    """A version's status from its JSON values."""
    return VersionStatus(**{**values, "state": State(values["state"])})


def tensors_out(specs: tuple[TensorSpec, ...]) -> list[Message]:
    """Inputs or outputs as the admin API shows them."""
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]


def told_out(told: Sequence[Feedback]) -> list[list[Any]]:
    """What was told of answers, as JSON values."""
    return [[one.id, one.label, one.reward, one.at] for one in told]


def told_pieces(told: Sequence[Feedback]) -> Iterator[list[list[Any]]]:
    """The same in pieces, each of which is short enough for a message."""
    piece: list[list[Any]] = []
    size = 0
    for values in told_out(told):
        more = len(values[0]) + _characters(values[1]) + 64
        if piece and size + more > PIECE_CHARACTERS:
            yield piece
            piece, size = [], 0
        piece.append(values)
        size += more
    if piece:
        yield piece


def _characters(label: Any) -> int:
    if isinstance(label, list):
        return sum([_characters(one) for one in label])
    return len(label) + 4 if isinstance(label, str) else 32


def told_in(values: Iterable[Sequence[Any]]) -> list[Feedback]:
    """What was told of answers, from its JSON values."""
    return [Feedback(*one) for one in values]


def rows_out(rows: Sequence[Rows]) -> Message:
    """Rows that were gathered, one below the other, as JSON values."""
    if not rows:
        return {"rows": 0, "numbers": "", "labels": []}
    whole = joined(rows)
    labels = [[str(value) for value in column] for column in whole.labels]
    numbers = b64encode(whole.numbers.astype("<f8").tobytes()).decode()
    return {"rows": len(whole), "numbers": numbers, "labels": labels}


def rows_in(values: Message) -> Rows:
    """Rows that were gathered, from their JSON values."""
    numbers = np.frombuffer(b64decode(values["numbers"]), "<f8").reshape(values["rows"], -1)
    return Rows(numbers, tuple(values["labels"]))


def fault_out(fault: Fault | None) -> Message:
    """A command's result: what went wrong, or nothing."""
    return {} if fault is None else {"kind": fault.kind, "error": str(fault)}


def fault_in(values: Message) -> Fault | None:
    """What went wrong with a command, None if nothing did."""
    if "kind" not in values:
        return None
    return _FAULTS.get(values["kind"], Internal)(str(values["error"]))


class Outbox:
    """Messages on their way to one peer; a later one replaces an unsent one of the same key.

    So a peer that reads slowly costs bounded memory and still gets the newest state.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Message] = {}
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def put(self, key: str, message: Message) -> None:
        """Send this as soon as the peer has room."""
        self._waiting[key] = message
        self._emptied.clear()
        self._filled.set()

    async def flush(self) -> None:
        """Wait until all that was put is sent; for ever, if nothing pumps."""
        await self._emptied.wait()

    async def pump(self, writer: asyncio.StreamWriter) -> None:
        """Send whatever is put, until cancelled.

        Raises:
            ChannelBroken: the peer is gone or does not read.
        """
        while True:
            await self._filled.wait()
            while self._waiting:
                await self._send(writer, self._waiting.pop(next(iter(self._waiting))))
            self._filled.clear()
            self._emptied.set()

    async def _send(self, writer: asyncio.StreamWriter, message: Message) -> None:
        """Send one message; the connection outlives one that is too long."""
        try:
            await send(writer, message)
        except MessageTooLong as error:
            log.error("a message of the type %s is not sent: %s", message.get("type"), error)
