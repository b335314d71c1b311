"""Ports that are held for the workers and kept from strangers."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from penstock.control.instance.ports import (
    Address,
    PortUnavailable,
    address_of,
    describe_unavailable,
    listen,
    reserve,
    resolve,
    share,
)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize(("host", "text"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80")])
def test_the_text_of_an_address(host: str, text: str) -> None:
    assert str(Address(host, 80)) == text


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_held_port_is_for_sharers_only(host: str, stack: ExitStack) -> None:
    held = stack.enter_context(reserve(Address(host, 0), "--http-port"))
    address = address_of(held)
    with pytest.raises(PortUnavailable, match=f"port {address.port} on {host} is in use; choose another with --x"):
        reserve(address, "--x")
    with pytest.raises(PortUnavailable):
        listen(address, "--x")
    for _ in range(2):
        stack.enter_context(share(address)).listen()
    with pytest.raises(PortUnavailable):
        reserve(address, "--x")
    stack.enter_context(reserve(address, "--x", shared_already=True))


def test_a_held_port_takes_no_connection(stack: ExitStack) -> None:
    address = address_of(stack.enter_context(reserve(Address("127.0.0.1", 0), "--http-port")))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.host, address.port), 5)


def test_a_port_of_another_program_is_refused(stack: ExitStack) -> None:
    stranger = stack.enter_context(socket.create_server(("127.0.0.1", 0), reuse_port=True))
    with pytest.raises(PortUnavailable, match="in use"):
        reserve(address_of(stranger), "--http-port")


def test_closed_connections_of_another_program_do_not_block_a_port(stack: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = address_of(stranger)
        with socket.create_connection((address.host, address.port)):
            stranger.accept()[0].close()  # the side that closes first leaves the address lingering
    held = stack.enter_context(reserve(address, "--http-port"))
    assert address_of(held) == address
    stack.enter_context(share(address)).listen()


def test_hosts_that_mean_nothing_here() -> None:
    assert resolve("127.0.0.1") == "127.0.0.1"
    assert resolve("::1") == "::1"
    with pytest.raises(PortUnavailable, match="--host"):
        resolve("no such host")
    with pytest.raises(PortUnavailable, match="not an address of this machine"):
        reserve(Address("192.0.2.1", 0), "--http-port")


def test_a_port_that_needs_more_rights_is_refused_with_the_option_that_chooses_another() -> None:
    fault = describe_unavailable(Address("127.0.0.1", 80), "--http-port", PermissionError(errno.EACCES, "denied"))
    assert str(fault) == "port 80 on 127.0.0.1 needs more rights; choose another with --http-port"
