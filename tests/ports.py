"""Ports for servers that must be told one: of a range from which the kernel gives none to anybody else."""

import random
import socket
from contextlib import suppress

RANGE = range(10_000, 32_768)
"""Below the ports of outgoing connections and of servers that ask for any, as Linux sets them."""

_numbers = random.SystemRandom()  # Hypothesis gives all processes the same seed


def free_port() -> int:
    """A port of loopback that nobody uses at this moment."""
    while True:
        port = _numbers.choice(RANGE)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
