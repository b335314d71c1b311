"""A raw client of server-sent events: one HTTP/1.1 connection whose messages a thread reads."""

import json
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from penstock.cli.connections import Address, open_connection
from tests.harness import PATIENCE_S, wait_until


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One message: its id, event and data."""

    id: str
    event: str
    data: Any


class EventStream:
    """An open stream; ``messages`` and ``comments`` hold what has come so far."""

    def __init__(self, address: Address, path: str, headers: Mapping[str, str] | None = None) -> None:
        self.messages: list[StreamMessage] = []
        self.comments = 0
        self._connection = open_connection(address, PATIENCE_S)
        self._connection.request("GET", path, headers={"accept": "text/event-stream", **(headers or {})})
        self.answer = self._connection.getresponse()
        if self.answer.status != 200:
            refusal = self.answer.status, self.answer.read()
            self._connection.close()
            raise AssertionError(refusal)
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            while line := self.answer.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                    continue
                if "data" in fields:
                    self.messages.append(
                        StreamMessage(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
                    )
                self.comments += "" in fields
                fields = {}
        except (OSError, ValueError, AttributeError):
            pass  # the test has cut it

    def of(self, event: str) -> list[Any]:
        """The data of the messages of one event."""
        return [message.data for message in self.messages if message.event == event]

    def wait_for(self, event: str, number: int = 1) -> Any:
        """Wait until so many messages of an event have come, and return the data of the newest."""
        wait_until(lambda: len(self.of(event)) >= number, PATIENCE_S, lambda: f"{event}: {self.messages}")
        return self.of(event)[-1]

    @property
    def last_id(self) -> str:
        """The id of the last message that has one: a heartbeat has none."""
        return next(message.id for message in reversed(self.messages) if message.id)

    @property
    def is_open(self) -> bool:
        """Whether the server has not ended the stream."""
        return self._reading.is_alive()

    def cut(self) -> None:
        """Close the connection at once."""
        if self._connection.sock is not None:
            with suppress(OSError):  # the server was first
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._reading.join(PATIENCE_S)
        self.answer.close()
        self._connection.close()

    def __enter__(self) -> "EventStream":
        """Return the stream, which the end of the block cuts."""
        return self

    def __exit__(self, *_: object) -> None:
        """Cut it."""
        self.cut()
