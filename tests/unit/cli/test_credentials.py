"""The token of a command: read from its file, sent by every verb that talks to a gateway, and never an argument."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from penstock.cli import build
from penstock.cli.credentials import read_authorization, using_token_file
from tests.unit.cli.conftest import Result
from tests.unit.docs.reference import _leaves


def test_a_token_is_sent_without_the_end_of_its_line(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("pk_abc\n")
    assert read_authorization() is None
    with using_token_file(file):
        assert read_authorization() == "Bearer pk_abc"
        file.write_text("other.token-~+/=")
        assert read_authorization() == "Bearer other.token-~+/="
        with using_token_file(None):
            assert read_authorization() is None
    assert read_authorization() is None


@pytest.mark.parametrize("content", [None, "", "two tokens", "a\nb", "a\x00b", "x" * 9000, "a\r\nx: y"])
def test_a_file_without_one_token_ends_the_command(
    content: str | None, tmp_path: Path, penstock: Callable[..., Result]
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content, newline="")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"127.0.0.1:{listening.getsockname()[1]}"
        done = penstock("whoami", "--url", url, "--token-file", str(file))
    assert (done.code, "the token file" in done.err) == (2, True)


def test_every_verb_that_takes_an_address_takes_a_token_file() -> None:
    root: Any = typer.main.get_command(build([]))
    verbs = {path: {name for param in command.params for name in param.opts} for command, path in _leaves(root, "")}
    assert len(verbs) > 40
    assert {path for path, options in verbs.items() if options & {"--url", "--gateway"}} == {
        path for path, options in verbs.items() if "--token-file" in options
    }


@pytest.mark.parametrize("rate", ["x", "-1/s", "inf", "1/m"])
def test_a_rate_is_a_number_each_second(rate: str, penstock: Callable[..., Result]) -> None:
    done = penstock("keys", "create", "bot", "--role", "caller", "--rate", rate)
    assert (done.code, "10/s" in done.err) == (2, True)
