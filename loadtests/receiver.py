"""Reads what is sent to it over HTTP and throws it away: an OTLP receiver that costs as little as one can."""

import argparse
import socket

from loadtests.processes import write_ready

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
_PART = 1 << 20


def serve(listener: socket.socket) -> None:
    """Take requests on one connection after the other, for ever."""
    space = bytearray(_PART)
    while True:
        connection, _ = listener.accept()
        with connection:
            while discard(connection, space):
                pass


def discard(connection: socket.socket, space: bytearray) -> bool:
    """Read a request with a content length, and answer it; ``space`` is where its parts go. Return whether one came."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(1 << 16)
        if not part:
            return False
        head += part
    fields, _, body = head.partition(b"\r\n\r\n")
    left = length_in(fields) - len(body)
    while left > 0 and (size := connection.recv_into(space)):
        left -= size
    connection.sendall(ANSWER)
    return True


def length_in(fields: bytes) -> int:
    """Return the content length that header fields state; 0 without one."""
    for line in fields.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return 0


def main() -> None:
    """Listen on a free port, and write it to the ready file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-file", required=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        write_ready(parser.parse_args().ready_file, listener.getsockname()[1])
        serve(listener)


if __name__ == "__main__":
    main()
