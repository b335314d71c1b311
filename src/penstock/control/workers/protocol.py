"""The protocol between control process and workers: one JSON object per line, and its encoders and decoders."""

import asyncio
import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from penstock.core.access.documents import decode_table, encode_table
from penstock.core.access.quota_shares import QuotaShare
from penstock.core.access.table import AccessTable
from penstock.core.batching import RowProof
from penstock.core.certificates import TlsMaterial
from penstock.core.desired import Desired, LearnSpec, ModelSpec, ReadyState, VersionSpec, VersionStatus, WatchSpec
from penstock.core.errors import KINDS, Fault, Internal
from penstock.core.frames.terms import RowTerms
from penstock.core.model_signing import SignedFiles
from penstock.core.routing import decode_stored_route, encode_stored_route
from penstock.core.signature import TensorSpec
from penstock.monitor.columns import RowValues, concatenate
from penstock.monitor.feedback import Feedback

Message = dict[str, Any]

LINE_BYTES = 16 << 20
"""The longest line; the desired state of a thousand models with label files stays far below."""

SEND_S = 5.0
"""A peer that does not read for that long is disconnected."""

_FAULTS: Mapping[str, type[Fault]] = {kind.kind: kind for kind in KINDS}


ACCESS = "access"
"""The type of the message with the access table."""

SHARES = "quota_shares"
"""The type of the message with the gateway's shares of quotas."""

TRACES = "traces"
"""The type of the message with records of requests."""

ATTRIBUTIONS = "attributions"
"""The type of the message with the sizes of attributions of live rows."""

TLS = "tls"
"""The type of the message with the TLS material of the ports."""

DELEGATION = "delegation"
"""The type of the message with the key of delegated credentials."""

PIECE_CHARACTERS = 1 << 20
"""Characters of feedback in one message; JSON may need twelve bytes for one of them."""

log = logging.getLogger("penstock.control")


class ChannelBroken(Exception):
    """The peer is gone, or breaks the protocol."""


class MessageTooLong(Exception):
    """A message is longer than a line may be; none of it was sent."""


async def receive(reader: asyncio.StreamReader) -> Message | None:
    """The next message, None at the end of the stream.

    Raises:
        ChannelBroken: the line is too long, cut off or not a JSON object.
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
        raise ChannelBroken("the line is not JSON") from None
    if not isinstance(message, dict):
        raise ChannelBroken("the line is not a JSON object")
    return message


async def send(writer: asyncio.StreamWriter, message: Message) -> None:
    """Write one message and wait until the write buffer has drained.

    Raises:
        ChannelBroken: the peer is gone or does not read.
        MessageTooLong: it is over the limit of a line.
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


def encode_desired(desired: Desired) -> Message:
    """A desired state as JSON values."""
    routes = [None if model.route is None else encode_stored_route(model.route) for model in desired.models]
    values = asdict(replace(desired, models=tuple(replace(model, route=None) for model in desired.models)))
    for model, route in zip(values["models"], routes, strict=True):
        model["route"] = route
    return values


def decode_desired(values: Message) -> Desired:
    """A desired state from its JSON values."""
    models = tuple(_decode_model(model) for model in values["models"])
    return Desired(values["revision"], models, values.get("waiting", False))


def _decode_model(values: Message) -> ModelSpec:
    versions = tuple(_decode_version(version) for version in values["versions"])
    route = None if values["route"] is None else decode_stored_route(values["route"])
    fields = (values["name"], versions, values["aliases"], values["unavailable"], values["transition"])
    kept_back = (tuple(values["withheld"]), tuple(values.get("exhausted", ())))
    return ModelSpec(*fields, route, values["vote_round"], *kept_back)


def _decode_version(values: Message) -> VersionSpec:
    files = tuple((path, digest) for path, digest in values["files"])
    watch: dict[str, Any] = {
        key: tuple(item) if isinstance(item, list) else item for key, item in values["watch"].items()
    }
    watch["learn"] = LearnSpec(**watch["learn"])
    signed = {**values["signed"], "files": tuple((path, digest) for path, digest in values["signed"]["files"])}
    parts: dict[str, Any] = {
        "signed": SignedFiles(**{**signed, "bundles": tuple(signed["bundles"])}),
        "watch": WatchSpec(**watch),
        "row_terms": RowTerms(**{**values["row_terms"], "names": tuple(values["row_terms"]["names"])}),
    }
    return VersionSpec(**{**values, **parts, "files": files, "rows": RowProof(**values["rows"])})


def encode_status(status: VersionStatus) -> Message:
    """A version's status as JSON values."""
    return asdict(status)


def decode_status(values: Message) -> VersionStatus:
    """A version's status from its JSON values."""
    return VersionStatus(**{**values, "state": ReadyState(values["state"])})


def encode_access(table: AccessTable) -> Message:
    """The message with the access table."""
    return {"type": ACCESS, "table": encode_table(table)}


def decode_access(message: Message) -> AccessTable:
    """The access table from its message."""
    return decode_table(message["table"])


def encode_shares(shares: Mapping[str, QuotaShare]) -> Message:
    """The message with the gateway's shares of quotas by caller."""
    return {"type": SHARES, "shares": {name: asdict(share) for name, share in shares.items()}}


def decode_shares(message: Message) -> dict[str, QuotaShare]:
    """The shares of quotas from their message."""
    return {name: QuotaShare(**values) for name, values in message["shares"].items()}


def encode_delegation(key: bytes) -> Message:
    """The message with the key of delegated credentials."""
    return {"type": DELEGATION, "key": key.hex()}


def decode_delegation(message: Message) -> bytes:
    """The key of delegated credentials from its message."""
    return bytes.fromhex(message["key"])


def encode_tls(material: TlsMaterial) -> Message:
    """The message with the TLS material of the ports."""
    return {"type": TLS, **asdict(material)}


def decode_tls(message: Message) -> TlsMaterial:
    """The TLS material of the ports from its message."""
    return TlsMaterial(**{name: value for name, value in message.items() if name != "type"})


def encode_tensors(specs: tuple[TensorSpec, ...]) -> list[Message]:
    """Inputs or outputs as the admin API shows them."""
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]


def encode_feedback(feedback: Sequence[Feedback]) -> list[list[Any]]:
    """Feedback as JSON values."""
    return [[item.id, item.label, item.reward, item.at] for item in feedback]


def feedback_pieces(feedback: Sequence[Feedback]) -> Iterator[list[list[Any]]]:
    """Feedback as JSON values, in pieces that are each short enough for one message."""
    piece: list[list[Any]] = []
    size = 0
    for values in encode_feedback(feedback):
        more = len(values[0]) + _count_characters(values[1]) + 64
        if piece and size + more > PIECE_CHARACTERS:
            yield piece
            piece, size = [], 0
        piece.append(values)
        size += more
    if piece:
        yield piece


def _count_characters(label: Any) -> int:
    if isinstance(label, list):
        return sum([_count_characters(item) for item in label])
    return len(label) + 4 if isinstance(label, str) else 32


def decode_feedback(values: Iterable[Sequence[Any]]) -> list[Feedback]:
    """Feedback from its JSON values."""
    return [Feedback(*value) for value in values]


def encode_rows(rows: Sequence[RowValues]) -> Message:
    """Gathered rows, concatenated, as JSON values."""
    if not rows:
        return {"rows": 0, "numbers": "", "labels": []}
    whole = concatenate(rows)
    labels = [[str(value) for value in column] for column in whole.labels]
    numbers = b64encode(whole.numbers.astype("<f8").tobytes()).decode()
    return {"rows": len(whole), "numbers": numbers, "labels": labels}


def decode_rows(values: Message) -> RowValues:
    """Gathered rows from their JSON values."""
    numbers = np.frombuffer(b64decode(values["numbers"]), "<f8").reshape(values["rows"], -1)
    return RowValues(numbers, tuple(values["labels"]))


def encode_fault(fault: Fault | None) -> Message:
    """The result of a command as JSON values: the fault, or nothing."""
    return {} if fault is None else {"kind": fault.kind, "error": str(fault)}


def decode_fault(values: Message) -> Fault | None:
    """The fault of a command from its JSON values, None if it succeeded."""
    if "kind" not in values:
        return None
    return _FAULTS.get(values["kind"], Internal)(str(values["error"]))


class MessageQueue:
    """Messages that wait to be sent to one peer; a later one replaces an unsent one of the same key.

    So a slow peer costs bounded memory and still gets the newest state. Belongs to the event loop.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Message] = {}
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def put(self, key: str, message: Message) -> None:
        """Queue a message, in place of an unsent one of the same key."""
        self._waiting[key] = message
        self._emptied.clear()
        self._filled.set()

    def holds(self, key: str) -> bool:
        """Whether a message of this key waits to be sent."""
        return key in self._waiting

    async def flush(self) -> None:
        """Wait until the queue is sent; for ever while ``pump`` does not run."""
        await self._emptied.wait()

    async def pump(self, writer: asyncio.StreamWriter) -> None:
        """Send queued messages until cancelled.

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
            log.error("a message of type %s was dropped: %s", message.get("type"), error)
